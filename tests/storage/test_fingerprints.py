"""Tests of fingerprints and digests of files."""

import os

from tiger_jax.storage.fingerprints import file_digests, fingerprint


def test_fingerprints_differ_if_the_contents_differ():
  assert fingerprint({'a': 1, 'b': 2}) == fingerprint({'b': 2, 'a': 1})
  different = [
    fingerprint(*parts)
    for parts in ([1], [2], [[1]], [1, 1], ['1'], [{'a': 1}], [1.5], [None])
  ]
  assert len(set(different)) == len(different)
  assert all(len(x) == 64 for x in different)


def test_file_digests_depend_on_contents_only(tmp_path):
  folder = tmp_path / 'raw'
  folder.mkdir()
  assert file_digests('', str(folder), str(tmp_path / 'missing')) == []
  file = folder / 'a'
  file.write_text('one')
  first = file_digests(folder)
  assert first == file_digests(str(file))
  os.utime(file, ns=(0, 0))
  assert first == file_digests(folder)
  file.write_text('two')
  os.utime(file, ns=(0, 0))
  assert file_digests(folder) != first
  (folder / 'below').mkdir()
  (folder / 'below' / 'b').write_text('more')
  assert [name for name, _ in file_digests(folder)] == ['a', 'b']
