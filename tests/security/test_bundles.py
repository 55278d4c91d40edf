"""Tests of damaged and hostile bundles."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from tests import small
from tests.serving import shop as shops
from tiger_jax.errors import DataError
from tiger_jax.serving.recommender import Recommender


@pytest.fixture(name='saved', scope='module')
def _saved(tmp_path_factory):
  folder = tmp_path_factory.mktemp('bundle') / 'model'
  shops.make_shop(shops.make_model()).save_bundle(folder)
  return folder


@pytest.fixture(name='copy')
def _copy(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'copy')


def load_error(folder):
  with pytest.raises(DataError) as error:
    Recommender.from_bundle(folder)
  assert '\n' not in str(error.value)
  return str(error.value)


def change_manifest(folder, change):
  path = folder / 'manifest.json'
  manifest = json.loads(path.read_text())
  change(manifest)
  path.write_text(json.dumps(manifest))


def replace(folder, name, data):
  """Replaces a file, and its entry in the manifest, as an attacker would."""
  (folder / name).write_bytes(data)
  entry = {'size': len(data), 'sha256': hashlib.sha256(data).hexdigest()}
  change_manifest(folder, lambda x: x['files'].__setitem__(name, entry))


def replace_array(folder, file, name, change):
  arrays = safetensors.numpy.load((folder / file).read_bytes())
  arrays[name] = np.ascontiguousarray(change(arrays[name]))
  replace(folder, file, safetensors.numpy.save(arrays))


def change_config(folder, change):
  values = json.loads((folder / 'config.json').read_text())
  change(values)
  replace(folder, 'config.json', json.dumps(values).encode())


def names(folder):
  return sorted(set(os.listdir(folder)) - {'manifest.json'})


def test_every_damaged_file_is_named(saved, tmp_path):
  for name in names(saved):
    for number, damage in enumerate((_flip, _truncate, _remove, _link, _pipe)):
      copy = tmp_path / f'{name}{number}'
      shutil.copytree(saved, copy)
      damage(copy / name, saved)
      assert f'{copy / name} is damaged' in load_error(copy), damage


def _flip(path, saved):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def _truncate(path, saved):
  path.write_bytes(path.read_bytes()[:-1])


def _remove(path, saved):
  path.unlink()


def _link(path, saved):
  path.unlink()
  path.symlink_to(saved / path.name)  # Even if the content is right.


def _pipe(path, saved):
  path.unlink()
  os.mkfifo(path)


def test_a_missing_folder_or_manifest_is_named(copy, tmp_path):
  assert 'there is no folder' in load_error(tmp_path / 'nowhere')
  (copy / 'manifest.json').unlink()
  assert f'{copy}/manifest.json is damaged' in load_error(copy)


@pytest.mark.parametrize(
  'name',
  [
    '../outside', '/etc/passwd', 'a/b', '..', '.', '', '.hidden', 'a\\b',
    'https://x', 'x\n', 'x\0', 'ä', 'C:x', 'x' * 101,
  ],
)  # fmt: skip
def test_names_outside_of_the_folder_are_refused(copy, tmp_path, name):
  data = b'outside'
  (tmp_path / 'outside').write_bytes(data)
  entry = {'size': len(data), 'sha256': hashlib.sha256(data).hexdigest()}
  change_manifest(copy, lambda x: x['files'].__setitem__(name, entry))
  message = load_error(copy)
  assert 'manifest.json is damaged (the file name' in message


@pytest.mark.parametrize(
  'content',
  [
    b'', b'[]', b'{}', b'{"format": 1}', b'{"format": 1, "files": []}',
    b'{"format": true, "files": {}}', b'{"format": "1", "files": {}}',
    b'[' * 10**5, b'\xff', b'{"format": 1, "files": {"a": [1, "x"]}}',
    b'{"format": 1, "files": {"a": {"size": -1, "sha256": "x"}}}',
    b'{"format": 1, "files": {"a": {"size": 1, "sha256": "../x"}}}',
    b' ' * (2**20 + 1),
  ],
)  # fmt: skip
def test_wrong_manifests_are_refused(copy, content):
  (copy / 'manifest.json').write_bytes(content)
  assert 'manifest.json is damaged' in load_error(copy)


def test_an_unknown_format_is_refused(copy):
  change_manifest(copy, lambda x: x.update(format=2))
  assert 'manifest.json has format 2, and this version reads' in load_error(
    copy
  )


def test_a_required_file_must_be_listed(copy):
  for name in ('config.json', 'items.jsonl', 'model.safetensors'):
    change_manifest(copy, lambda x, name=name: x['files'].pop(name))
    assert 'does not list' in load_error(copy)


# Loads the bundle in the current folder, and prints what Python reads there.
_LOADER = """
import json, os, sys
from tiger_jax.serving.recommender import Recommender

folder, opened = os.getcwd() + os.sep, set()

def record(event, arguments):
  path = str(arguments[0]) if event == 'open' else ''
  if path.startswith(folder):
    opened.add(path.removeprefix(folder))

sys.addaudithook(record)
before = set(sys.modules)
assert Recommender.from_bundle(folder).num_items == 14
files = [getattr(x, '__file__', None) for x in list(sys.modules.values())]
print(json.dumps({
  'opened': sorted(opened),
  'imported': [x for x in files if str(x).startswith(folder)],
  'added': sorted(set(sys.modules) - before),
}))
"""


def test_files_that_are_not_listed_are_ignored(copy):
  """A folder may hold Python files and pickles; none of them is read.

  The bundle is loaded in a new process, because modules that are imported
  already would not be imported again.
  """
  evil = 'raise SystemExit("imported")'
  for name in (
    'tiger_jax.py', 'safetensors.py', 'sitecustomize.py', '__init__.py',
    'modeling_tiger.py', 'config.py', 'conftest.py',
  ):  # fmt: skip
    (copy / name).write_text(evil)
  (copy / 'model.pkl').write_bytes(b'cos\nsystem\n(S"false"\ntR.')
  replace(copy, 'setup.py', evil.encode())  # Listed files are not run either.
  (copy / '.gitattributes').write_text('*.safetensors filter=lfs')
  listed = json.loads((copy / 'manifest.json').read_text())['files']
  # -P: Python itself does not import modules of the current folder.
  done = subprocess.run(
    [sys.executable, '-P', '-c', _LOADER],
    cwd=copy,
    env={**os.environ, 'PYTHONPATH': str(small.ROOT)},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  seen = json.loads(done.stdout)
  assert seen['opened'] == sorted([*listed, 'manifest.json'])
  assert not seen['imported']
  assert not {'modeling_tiger', 'setup', 'conftest'} & set(seen['added'])


@pytest.mark.parametrize(
  ('section', 'field', 'value', 'message'),
  [
    ('embedding', 'model', '/home/me/model', 'a path or a URL'),
    ('embedding', 'model', '../model', 'a path or a URL'),
    ('embedding', 'model', 'https://x.org/model', 'a path or a URL'),
    ('embedding', 'model', 'models', 'a path or a URL'),
    ('embedding', 'model', 'models/here', 'a path or a URL'),
    ('embedding', 'model', 'models/here@main', 'a path or a URL'),
    ('embedding', 'model', 'a/b/c', 'a path or a URL'),
    ('embedding', 'model', 'C:\\model', 'a path or a URL'),
    ('embedding', 'model', 'a/b\n', 'a path or a URL'),
    ('embedding', 'path', '/dev/zero', 'a path or a URL'),
    ('dataset', 'source_dir', '/', 'a path or a URL'),
    ('model', 'name', 'sasrec', 'does not generate Semantic IDs'),
    ('model', 'name', 'os:system', 'config.model.name'),
    ('model', 'd_model', 10**9, ' is damaged ('),
    ('model', 'invented', 1, 'config.model.invented'),
    ('evaluation', 'num_beams', 4097, 'num_beams is 4097, but a bundle allows'),
    ('train', 'length_buckets', [4, 2, 4], 'length_buckets is'),
    ('model', 'num_encoder_layers', 10**6, 'config.model.num_encoder_layers'),
  ],
)  # fmt: skip
def test_hostile_configs_are_refused(
  copy, monkeypatch, section, field, value, message
):
  (copy / 'models/here').mkdir(parents=True)
  monkeypatch.chdir(copy)
  change_config(copy, lambda x: x['config'][section].update({field: value}))
  assert message in load_error(copy)


@pytest.mark.parametrize(
  ('buckets', 'message'),
  [
    ([4, 4097], 'model.max_history is 4097, but a bundle allows at most 4096'),
    (list(range(1, 66)), 'length of train.length_buckets is 65'),
  ],
)
def test_settings_above_the_limits_are_refused(copy, buckets, message):
  """The model has no array of the size of these settings."""

  def change(values):
    values['config']['train']['length_buckets'] = buckets
    values['config']['model']['max_history'] = buckets[-1]

  change_config(copy, change)
  assert message in load_error(copy)


@pytest.mark.parametrize(
  'change',
  [
    lambda x: x.pop('config'),
    lambda x: x.update(config=[]),
    lambda x: x.update(name=3),
    lambda x: x.update(name='\ud800'),
    lambda x: x['semantic_ids'].update(level_sizes=[3, 3]),
    lambda x: x['semantic_ids'].update(level_sizes=[3, 3, 2**40]),
    lambda x: x['semantic_ids'].update(num_meaning_levels=1),
    lambda x: x.update(capacity='many'),
    lambda x: x.update(capacity=-1),
    lambda x: x.update(tokenizer={'quantizer': 'os.system'}),
    lambda x: x.update(results=[]),
  ],
)
def test_wrong_values_in_the_config_are_refused(copy, change):
  change_config(copy, change)
  assert ' is damaged (' in load_error(copy)


@pytest.mark.parametrize(
  ('file', 'name', 'change'),
  [
    ('model', 'start', lambda x: x[:-1]),
    ('model', 'start', lambda x: x.astype(np.float64)),
    ('model', 'start', lambda x: x * np.float32(np.nan)),
    ('model', 'extra', None),
    ('catalog', 'codes', lambda x: x[:-1]),
    ('catalog', 'codes', lambda x: x - 1),
    ('catalog', 'codes', lambda x: np.zeros_like(x)),
    ('catalog', 'codes', lambda x: x + 100),
    ('catalog', 'rows', lambda x: x + 1),
    ('catalog', 'rows', lambda x: x - 1),
    ('catalog', 'rows', lambda x: np.zeros_like(x)),
    ('catalog', 'rows', lambda x: x[:0]),
    ('item_vectors', 'vectors', lambda x: x[1:]),
    ('item_vectors', 'vectors', lambda x: x * np.float32(np.inf)),
    ('transitions', 'start', lambda x: x[::-1]),
    ('transitions', 'start', lambda x: x + 10**6),
    ('transitions', 'successor', lambda x: x - 1),
    ('transitions', 'count', lambda x: x[:0]),
    ('tokenizer', 'mean', lambda x: x[:-1]),
  ],
)
def test_arrays_that_do_not_fit_are_refused(copy, file, name, change):
  file = f'{file}.safetensors'
  if change is None:
    arrays = safetensors.numpy.load((copy / file).read_bytes())
    arrays[name] = np.zeros(1, np.float32)
    replace(copy, file, safetensors.numpy.save(arrays))
  else:
    replace_array(copy, file, name, change)
  assert f'{file} is damaged' in load_error(copy)


@pytest.mark.parametrize(
  'line',
  [
    b'', b'{', b'[]', b'{"id": 3, "title": "x", "popularity": 0}',
    b'{"id": "x", "title": null, "popularity": 0}',
    b'{"id": "x", "title": "x", "popularity": -1}',
    b'{"id": "x", "title": "x", "popularity": 1e999}',
    b'{"id": "x", "title": "x"}',
    b'{"id": "\\ud800", "title": "x", "popularity": 0}',
    b'{"id": "", "title": "x", "popularity": 0}',
    b'{"id": "x\\u001b", "title": "x", "popularity": 0}',
    b'{"id": "x", "title": "\\ud800", "popularity": 0}',
    b'{"id": "x", "title": "x\\ny", "popularity": 0}',
    b'{"id": "x", "title": "%s", "popularity": 0}' % (b'x' * 1025),
  ],
)  # fmt: skip
def test_wrong_items_are_refused(copy, line):
  lines = (copy / 'items.jsonl').read_bytes().splitlines()
  replace(copy, 'items.jsonl', b'\n'.join([line, *lines[1:]]))
  assert 'items.jsonl is damaged' in load_error(copy)
