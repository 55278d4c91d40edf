"""Tests of the record of a finished stage."""

import json
import os

import numpy as np
import pytest

import tiger_jax
from tiger_jax.errors import DataError
from tiger_jax.storage import record
from tiger_jax.storage.fingerprints import fingerprint

ONE = fingerprint('one')
METADATA = {'config': {'seed': 1}, 'environment': {'tiger_jax': '0.4.2'}}


@pytest.fixture(name='folder')
def _folder(tmp_path):
  """Returns the folder of a finished stage."""
  folder = tmp_path / 'run' / 'stage'
  folder.mkdir(parents=True)
  np.save(folder / 'embeddings.npy', np.arange(12.0))
  (folder / 'quality.json').write_text('{"a": 1}')
  (folder / 'picture.png').write_bytes(b'png')
  (folder / 'checkpoints').mkdir()
  (folder / 'checkpoints' / 'meta.json').write_text('{}')
  record.write(folder, ONE, 1.5, METADATA)
  return folder


def change(folder, **values):
  path = folder / record.NAME
  path.write_text(json.dumps(json.loads(path.read_text()) | values))


def read_error(folder, **options):
  """Returns the message of the error that reading a record raises."""
  with pytest.raises(DataError) as error:
    record.read(folder, **options)
  assert '\n' not in str(error.value)
  assert len(str(error.value)) < 600
  return str(error.value)


def test_reads_what_was_written(folder):
  expected = record.Artifact(folder, ONE, 1.5, METADATA)
  assert record.read(folder) == expected
  assert record.read(folder, thorough=True) == expected
  written = json.loads((folder / record.NAME).read_text())
  # The record lists neither pictures, which no stage reads, nor checkpoints,
  # which have their own manifest.
  assert sorted(written['files']) == ['embeddings.npy', 'quality.json']
  assert written['format'] == record.FORMAT


def test_reads_a_record_without_a_format_number(folder):
  path = folder / record.NAME
  values = json.loads(path.read_text())
  del values['format'], values['files']
  path.write_text(json.dumps(values))
  (folder / 'quality.json').unlink()
  assert record.read(folder, thorough=True).fingerprint == ONE


def test_the_error_for_a_newer_format_names_both_versions(folder):
  change(folder, format=record.FORMAT + 1, fingerprint='of another form')
  message = read_error(folder)
  assert f'has format {record.FORMAT + 1}' in message
  assert '0.4.2' in message and tiger_jax.__version__ in message
  assert str(folder / record.NAME) in message
  change(folder, about={'environment': {'tiger_jax': '\x1b[2J' * 9}})
  assert 'an unknown version' in read_error(folder)


@pytest.mark.parametrize(
  'values',
  [
    *({'fingerprint': x} for x in (
      '/../..', '../../' + 'a' * 58, 'A' * 64, 'a' * 63, 'a' * 64 + '\n', 5,
      None,
    )),
    *({'seconds': x} for x in (
      10**400, float('nan'), float('inf'), -1, '1', None, True, [],
    )),
    *({'about': x} for x in (
      None, [], 'x', {'config': []}, {'environment': 'x'},
    )),
    *({'format': x} for x in (-1, '1', 1.0, True, None)),
    *({'files': x} for x in (
      [], {'a': 1}, {'a': [1]}, {'a': [1, 'x']}, {'a': ['1', ONE]},
      {'../a': [1, ONE]}, {'/dev/zero': [1, ONE]}, {'a/b': [1, ONE]},
      {'..': [1, ONE]},
    )),
  ],
)  # fmt: skip
def test_refuses_records_with_invalid_values(folder, values):
  change(folder, **values)
  message = read_error(folder)
  assert f'{folder / record.NAME} is damaged' in message
  assert f'remove {folder} and run again' in message


@pytest.mark.parametrize(
  'text', ['[' * 100_000, '{"seconds": 1e999', '1' * 5000, '', 'null', '[1]']
)
def test_refuses_text_that_is_not_a_record(folder, text):
  (folder / record.NAME).write_text(text)
  assert 'is damaged' in read_error(folder)


def test_refuses_seconds_that_overflow(folder):
  path = folder / record.NAME
  path.write_text(path.read_text().replace('1.5', '1e999'))
  assert 'is damaged' in read_error(folder)


def test_reading_a_pipe_does_not_block(folder):
  (folder / record.NAME).unlink()
  os.mkfifo(folder / record.NAME)
  assert 'not a regular file' in read_error(folder)


@pytest.mark.parametrize('thorough', [False, True])
def test_detects_a_missing_or_truncated_file(folder, thorough):
  path = folder / 'embeddings.npy'
  data = path.read_bytes()
  path.write_bytes(data[:-1])
  message = read_error(folder, thorough=thorough)
  assert f'{path} is damaged' in message
  assert f'remove {folder} and run again' in message
  path.unlink()
  assert f'{path} is damaged' in read_error(folder, thorough=thorough)


def test_a_thorough_read_detects_a_flipped_bit(folder):
  path = folder / 'embeddings.npy'
  data = bytearray(path.read_bytes())
  data[-3] ^= 1
  path.write_bytes(data)
  assert record.read(folder).fingerprint == ONE
  message = read_error(folder, thorough=True)
  assert f'{path} is damaged' in message
  assert f'remove {folder} and run again' in message


def test_refuses_a_device_in_place_of_a_file(folder):
  (folder / 'quality.json').unlink()
  (folder / 'quality.json').symlink_to('/dev/zero')
  assert 'not a regular file' in read_error(folder, thorough=True)


def test_files_that_are_not_listed_may_change(folder):
  (folder / 'picture.png').unlink()
  (folder / 'notes.json').write_text('mine')
  assert record.read(folder, thorough=True).fingerprint == ONE
