"""Collisions, the report and the files of Semantic IDs."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
import numpy as np
import pytest

from tiger_jax.errors import DataError
from tiger_jax.semantic_ids.ids import (
  SemanticIds,
  format_report,
  report,
  resolve_collisions,
)

_CODES = np.array([[1, 2], [0, 3], [1, 2], [1, 3], [0, 3], [1, 2]], np.int32)


def _ids():
  return resolve_collisions(_CODES, 4, {'quantizer': 'test', 'seed': 3})


def test_collisions_by_hand():
  ids = _ids()
  np.testing.assert_array_equal(ids.codes[:, :2], _CODES)
  np.testing.assert_array_equal(ids.codes[:, 2], [0, 0, 1, 0, 1, 2])
  assert ids.codes.dtype == np.int32
  assert ids.level_sizes == (4, 4, 3)
  assert ids.num_meaning_levels == 2


@settings(max_examples=60, deadline=None)
@given(
  st_numpy.arrays(
    np.int32,
    st.tuples(st.integers(1, 40), st.integers(1, 3)),
    elements=st.integers(0, 3),
  )
)
def test_collisions_of_anything(codes):
  ids = resolve_collisions(codes, 4, {})
  np.testing.assert_array_equal(ids.codes[:, :-1], codes)
  assert len({tuple(row) for row in ids.codes.tolist()}) == len(codes)
  seen: dict[tuple[int, ...], int] = {}
  for row, number in zip(codes.tolist(), ids.codes[:, -1], strict=True):
    assert number == seen.get(tuple(row), 0)
    seen[tuple(row)] = number + 1
  assert ids.level_sizes[-1] == max(seen.values())
  assert report(ids)['worst_collision'] == max(seen.values())


def test_report_by_hand():
  found = report(_ids())
  assert found['usage'] == [0.5, 0.5]
  # Level 1 is split 2 : 4, level 2 is split 3 : 3.
  entropy = -(np.log(1 / 3) / 3 + 2 * np.log(2 / 3) / 3)
  np.testing.assert_allclose(found['perplexity'], [np.exp(entropy), 2])
  assert found['collision_rate'] == pytest.approx(5 / 6)
  assert found['unique_prefix_rate'] == pytest.approx(3 / 6)
  assert found['worst_collision'] == 3
  assert json.loads(json.dumps(found)) == found


def test_report_for_the_terminal():
  assert format_report(report(_ids())).splitlines() == [
    'level   usage  perplexity',
    '    1   50.0%         1.9',
    '    2   50.0%         2.0',
    'items whose codes another item has too   83.3%',
    'different codes per item                 50.0%',
    'most items with the same codes           3',
  ]


def test_save_and_load(tmp_path):
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
def test_damage_is_one_line(tmp_path, damage):
  _ids().save(tmp_path)
  damage(tmp_path)
  with pytest.raises(DataError, match='damaged .*: delete the folder') as e:
    SemanticIds.load(tmp_path)
  assert '\n' not in str(e.value)


def test_missing_files_are_one_line(tmp_path):
  with pytest.raises(DataError, match=r'semantic_ids\.json is missing: run'):
    SemanticIds.load(tmp_path)


@pytest.mark.parametrize(
  ('codes', 'level_sizes', 'match'),
  [
    ([[0, 0], [0, 0]], (1, 2), 'two items share'),
    ([[0, 0], [0, 2]], (1, 2), 'outside of the level sizes'),
    ([[0, 0], [0, -1]], (1, 2), 'outside of the level sizes'),
    ([[0, 0]], (1, 1, 1), 'do not fit'),
    (np.zeros((0, 2)), (1, 1), 'no items'),
  ],
)
def test_wrong_ids_are_refused(codes, level_sizes, match):
  with pytest.raises(DataError, match=match):
    SemanticIds(np.array(codes, np.int32), level_sizes, 1, {})


def test_no_items_is_one_line():
  with pytest.raises(DataError, match='no items'):
    resolve_collisions(np.zeros((0, 3), np.int32), 4, {})
