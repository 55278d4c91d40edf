"""Tests that the manifest detects any damage to a folder."""

import json

import pytest

from tiger_jax.checkpoints import manifest

METADATA = {'step': 7}


@pytest.fixture(name='folder')
def _folder(tmp_path):
  (tmp_path / 'state' / 'deep').mkdir(parents=True)
  (tmp_path / 'meta.json').write_text('{"é": 1}')
  (tmp_path / 'state' / 'array').write_bytes(bytes(range(256)))
  (tmp_path / 'state' / 'deep' / 'other').write_bytes(b'x' * 256)
  (tmp_path / 'state' / 'empty').touch()
  manifest.write(tmp_path, METADATA)
  return tmp_path


def error_of(folder, metadata=METADATA):
  with pytest.raises(ValueError, match='.') as error:
    manifest.check(folder, metadata)
  assert '\n' not in str(error.value)
  return str(error.value)


def test_an_unchanged_folder_passes(folder):
  manifest.check(folder, {'step': 7})
  manifest.check(folder, {'step': 7})
  listed = json.loads((folder / 'manifest.json').read_text())['files']
  assert set(listed) == {
    'meta.json', 'state/array', 'state/deep/other', 'state/empty',
  }  # fmt: skip
  assert listed['state/array'] == [
    256,
    # The output of `sha256sum`.
    '40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880',
  ]


@pytest.mark.parametrize(
  'name', ['meta.json', 'state/array', 'state/deep/other']
)
@pytest.mark.parametrize(
  'damage',
  [
    lambda data: b'',
    lambda data: data[:-1],
    lambda data: data + b'\0',
    lambda data: bytes(len(data)),
    lambda data: data[:3] + bytes([data[3] ^ 1]) + data[4:],
    lambda data: data[::-1] if data[0] != data[-1] else b'y' * len(data),
  ],
)
def test_a_changed_file_is_detected(folder, name, damage):
  path = folder / name
  path.write_bytes(damage(path.read_bytes()))
  assert error_of(folder) == f'{name} is not as it was written'


def test_a_changed_empty_file_is_detected(folder):
  (folder / 'state' / 'empty').write_bytes(b'\0')
  assert error_of(folder) == 'state/empty is not as it was written'


@pytest.mark.parametrize('name', ['meta.json', 'state/array', 'state/empty'])
def test_a_missing_file_is_detected(folder, name):
  (folder / name).unlink()
  assert error_of(folder) == f'{name} is missing'
  (folder / name).mkdir()
  assert error_of(folder) == f'{name} is missing'


def test_a_new_file_is_detected(folder):
  (folder / 'state' / 'more').touch()
  message = 'state/more is not in manifest.json'
  assert error_of(folder) == message
  (folder / 'state' / 'more').rename(folder / 'state' / 'manifest.json')
  assert 'state/manifest.json is not in manifest.json' in error_of(folder)


def test_swapped_files_are_detected(folder):
  array, other = folder / 'state' / 'array', folder / 'state' / 'deep' / 'other'
  one, two = array.read_bytes(), other.read_bytes()
  assert len(one) == len(two)
  array.write_bytes(two)
  other.write_bytes(one)
  assert 'state/array is not' in error_of(folder)


def test_the_manifest_of_another_folder_is_detected(folder):
  message = "manifest.json belongs to {'step': 7}, not to {'step': 8}"
  assert error_of(folder, {'step': 8}) == message


def test_a_missing_manifest_is_detected(folder):
  (folder / 'manifest.json').unlink()
  assert error_of(folder) == 'manifest.json is missing'


def test_every_damaged_manifest_is_detected(folder):
  path = folder / 'manifest.json'
  data = path.read_bytes()
  for i in range(len(data)):
    path.write_bytes(data[:i] + bytes([data[i] ^ (1 << i % 8)]) + data[i + 1 :])
    assert error_of(folder) == 'manifest.json is damaged', i
  for size in range(len(data)):
    path.write_bytes(data[:size])
    assert error_of(folder) == 'manifest.json is damaged', size


@pytest.mark.parametrize(
  'data', [b'', b'{}', b'[]', b'null', b'7', b'\xff\xfe', b'{"files": {}}']
)
def test_content_that_is_not_a_manifest_is_detected(folder, data):
  (folder / 'manifest.json').write_bytes(data)
  assert error_of(folder) == 'manifest.json is damaged'


def test_an_edited_manifest_is_detected(folder):
  """The manifest has a digest of its own content."""
  path = folder / 'manifest.json'
  contents = json.loads(path.read_text())
  contents['files'].pop('state/array')
  path.write_text(json.dumps(contents, indent=1))
  assert error_of(folder) == 'manifest.json is damaged'
