"""Tests the checks, groups and files of Semantic IDs."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
import numpy as np
import pytest

from tiger_jax.errors import DataError
from tiger_jax.semantic_ids.collisions import extra_code
from tiger_jax.semantic_ids.ids import SemanticIds, group_rows

_CODES = np.array([[1, 2], [0, 3], [1, 2], [1, 3], [0, 3], [1, 2]], np.int32)


def _ids():
  return extra_code(_CODES, (4, 4), {'quantizer': 'test', 'seed': 3})


@settings(max_examples=60, deadline=None)
@given(
  st_numpy.arrays(
    np.int32,
    st.tuples(st.integers(0, 20), st.integers(1, 4)),
    # Rows of large codes do not fit into one 64-bit key.
    elements=st.sampled_from([0, 1, 2, 2**31 - 2, 2**31 - 1]),
  )
)
def test_group_rows_equals_numpy(codes):
  group, counts = group_rows(codes)
  _, expected, expected_counts = np.unique(
    codes, axis=0, return_inverse=True, return_counts=True
  )
  np.testing.assert_array_equal(group, expected.reshape(-1))
  np.testing.assert_array_equal(counts, expected_counts)


def test_loaded_ids_equal_the_saved_ids(tmp_path):
  folder = tmp_path / 'new' / 'folder'
  ids = _ids()
  ids.save(folder)
  loaded = SemanticIds.load(folder)
  np.testing.assert_array_equal(loaded.codes, ids.codes)
  assert loaded.codes.dtype == np.int32
  assert loaded.level_sizes == ids.level_sizes
  assert loaded.num_meaning_levels == ids.num_meaning_levels
  assert loaded.provenance == ids.provenance
  assert sorted(path.name for path in folder.iterdir()) == [
    'semantic_ids.json',
    'semantic_ids.npz',
  ]


def _flip_a_byte(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(bytes(data))


@pytest.mark.parametrize(
  'damage',
  [
    lambda folder: _flip_a_byte(folder / 'semantic_ids.npz'),
    lambda folder: (folder / 'semantic_ids.npz').write_bytes(b''),
    lambda folder: (folder / 'semantic_ids.json').write_text('{"level_'),
    lambda folder: (folder / 'semantic_ids.json').write_text('[]'),
    lambda folder: (folder / 'semantic_ids.json').write_text('{}'),
  ],
)
def test_load_refuses_damaged_files(tmp_path, damage):
  _ids().save(tmp_path)
  damage(tmp_path)
  with pytest.raises(DataError, match='damaged .*: delete the folder') as e:
    SemanticIds.load(tmp_path)
  assert '\n' not in str(e.value)


def test_load_refuses_missing_files(tmp_path):
  with pytest.raises(DataError, match=r'semantic_ids\.json is missing: run'):
    SemanticIds.load(tmp_path)


@pytest.mark.parametrize(
  ('codes', 'level_sizes', 'match'),
  [
    ([[0, 0], [0, 1], [0, 0]], (1, 2), 'two items share'),
    ([[0, 0], [0, 2]], (1, 2), 'outside of the level sizes'),
    ([[0, 0], [0, -1]], (1, 2), 'outside of the level sizes'),
    ([[0, 0]], (1, 1, 1), 'do not fit'),
    ([[0, 0, 0]], (1, 1, 1), 'do not fit'),
    (np.zeros((0, 2)), (1, 1), 'no items'),
  ],
)
def test_refuses_invalid_ids(codes, level_sizes, match):
  with pytest.raises(DataError, match=match):
    SemanticIds(np.array(codes, np.int32), level_sizes, 1, {})


@pytest.mark.parametrize('num_meaning_levels', [1, 2])
def test_last_level_may_be_semantic_or_not(num_meaning_levels):
  SemanticIds(_CODES[:2], (4, 4), num_meaning_levels, {})
