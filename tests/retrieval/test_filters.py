"""Lists of items inside the search against a search among what is left."""

import numpy as np
import pytest

from tiger_jax.retrieval.filters import ItemLists

NUM_BEAMS = 20
# A request of each kind. Some rows, as the tests say, are of no item.
NUM_REQUESTS = 8


# Each level is a bitmap, or of lists, or the last, in some of them.
@pytest.fixture(
  scope='module',
  params=[
    'one level',
    'three levels',
    'four levels, one bitmap',
    'wide middle, no bitmap',
  ],
)
def kind(request, make_case):
  return make_case(request.param)


def _lists(rng, model, codes):
  """Lists of every kind, that name rows more than once or in vain."""
  num_rows = len(codes)
  some = [rng.permutation(num_rows)[:25].tolist() for _ in range(NUM_REQUESTS)]
  in_vain = [-1, num_rows + 1, 10**6]
  # Neighbours: all items of a prefix, at several levels.
  first = np.lexsort(codes.T[::-1])[:30].tolist()
  best = np.argsort(-model.scores(codes)[5])[:30].tolist()
  deny = [some[0] + some[0][:5], in_vain, some[2], [], first, best, [], some[7]]
  allow = [None, None, some[2][:20], some[3] + in_vain, None, None, [], first]
  return deny, allow


def _left(deny, allow, rows):
  """Which rows a request may get."""
  return [
    row
    for row in rows
    if row not in set(deny) and (allow is None or row in set(allow))
  ]


def _assert_right(model, found, ids, deny, allow):
  """Compares every request's beams with a search among what is left.

  Args:
    model: What scores IDs.
    found: Beams of a search with filters.
    ids: The ID of every row that the catalogue has.
    deny: What `ItemLists.of` was given.
    allow: Likewise.
  """
  for request in range(len(model.requests)):
    left = _left(deny[request], allow[request], ids)
    num = min(NUM_BEAMS, len(left))
    valid = found.valid[request]
    assert valid[:num].all() and not valid[num:].any()
    assert (found.items[request, num:] == -1).all()
    assert (found.scores[request, num:] == -np.inf).all()
    items = found.items[request, :num].tolist()
    assert len(set(items)) == num and set(items) <= set(left)
    assert found.exact_k[request] <= num
    if not left:
      continue
    rows = {ids[row]: row for row in left}
    beams, _ = model.slow_search(request, rows, NUM_BEAMS)
    assert items == [row for *_, row in beams]
    np.testing.assert_allclose(
      found.scores[request, :num], [x[0] for x in beams], atol=1e-4
    )
    every = model.scores([ids[row] for row in left])[request]
    exact_k = found.exact_k[request]
    np.testing.assert_allclose(
      found.scores[request, :exact_k], -np.sort(-every)[:exact_k], atol=1e-4
    )


def _ids(codes):
  return {row: tuple(x) for row, x in enumerate(np.asarray(codes).tolist())}


def test_equals_a_search_among_what_is_left(table_model, kind):
  catalog = kind.build()
  # Two more rows have an ID, but none that the catalogue has under them.
  table = np.concatenate([kind.codes, kind.codes[:2]])
  compiled = table_model.compiled()
  for seed in range(3):
    model = table_model(kind.level_sizes, np.arange(NUM_REQUESTS), seed)
    rng = np.random.default_rng(seed)
    deny, allow = _lists(rng, model, kind.codes)
    lists = ItemLists.of(deny, allow)
    found = model.search(catalog, NUM_BEAMS, lists=lists, codes=table)
    _assert_right(model, found, _ids(kind.codes), deny, allow)
    # Not for want of what can be proven.
    assert found.exact_k.sum() > NUM_REQUESTS
  assert table_model.compiled() <= compiled + 1


def test_nearly_everything_is_denied(table_model, make_case):
  case = make_case('two levels')
  model = table_model(case.level_sizes, np.arange(NUM_REQUESTS))
  rng = np.random.default_rng(0)
  num_left = [0, 1, 2, 7, 19, 20, 21, 40]
  deny = [rng.permutation(len(case.codes))[n:].tolist() for n in num_left]
  lists = ItemLists.of(deny)
  assert lists.rows.shape[1] == 256
  found = model.search(case.build(), NUM_BEAMS, lists=lists, codes=case.codes)
  _assert_right(model, found, _ids(case.codes), deny, [None] * NUM_REQUESTS)
  np.testing.assert_array_equal(
    found.valid.sum(1), np.minimum(num_left, NUM_BEAMS)
  )


def _small(table_model, make_case):
  """A catalogue of 25 items, a network, and a table of two rows more."""
  case = make_case('three levels')
  model = table_model(case.level_sizes, np.arange(NUM_REQUESTS))
  return case, model, np.concatenate([case.codes, case.codes[:2]])


def test_nothing_is_left(table_model, make_case):
  case, model, table = _small(table_model, make_case)
  everything = list(range(len(case.codes)))
  deny = [
    everything,
    everything + [-1, 99],
    [3],
    [],
    [],
    [],
    everything[1:],
    [],
  ]
  allow = [None, everything, [3], [], [-1], [99, 26], None, None]
  lists = ItemLists.of(deny, allow)
  found = model.search(case.build(), NUM_BEAMS, lists=lists, codes=table)
  assert found.valid.sum(1).tolist() == [0, 0, 0, 0, 0, 0, 1, NUM_BEAMS]
  assert found.exact_k[:7].tolist() == [0, 0, 0, 0, 0, 0, 1]
  _assert_right(model, found, _ids(case.codes), deny, allow)


def test_a_row_counts_once_however_often_it_is_named(table_model, make_case):
  case, model, table = _small(table_model, make_case)
  rng = np.random.default_rng(5)
  once = [rng.permutation(25)[:15].tolist() for _ in range(NUM_REQUESTS)]
  allow = np.arange(NUM_REQUESTS) % 2 == 0
  rows = np.full((NUM_REQUESTS, 32), -1, np.int32)
  for row, named in zip(rows, once, strict=True):
    row[:] = rng.permutation(named * 2 + [-1, named[0]])
  found = model.search(
    case.build(), NUM_BEAMS, lists=ItemLists(rows, allow), codes=table
  )
  deny = [[] if a else x for a, x in zip(allow, once, strict=True)]
  allowed = [x if a else None for a, x in zip(allow, once, strict=True)]
  _assert_right(model, found, _ids(case.codes), deny, allowed)


def test_rows_that_the_catalogue_no_longer_has_are_passed_over(
  table_model, kind
):
  """Also where the ID belongs to another row now, under which it is free."""
  catalog = kind.build().remove(np.array([4, 2, 0]))
  num_rows = len(kind.codes)
  catalog = catalog.add(kind.codes[[2, 4]])
  table = np.concatenate([kind.codes, kind.codes[[2, 4]]])
  ids = {row: x for row, x in _ids(table).items() if row not in (0, 2, 4)}
  model = table_model(kind.level_sizes, np.arange(NUM_REQUESTS))
  new = [num_rows, num_rows + 1]
  deny = [[0, 2, 4], [], [2, new[0]], [new[0]], [], [0, 1, 2], [], new]
  allow = [None, [0, 2, 4], None, None, [2, *new], [4, 5, 6, new[1]], [], None]
  found = model.search(
    catalog, NUM_BEAMS, lists=ItemLists.of(deny, allow), codes=table
  )
  _assert_right(model, found, ids, deny, allow)
  assert found.valid[1].sum() == 0
  assert set(found.items[4, :2].tolist()) == set(new)


def test_a_prefix_without_items_left_takes_no_beam(make_case, table_model):
  """Two beams; the items of the two best prefixes are all denied.

  To mask only their last codes would leave an empty list.
  """
  case = make_case('three levels')
  codes = np.array(
    [(0, 0, 0), (0, 0, 1), (0, 2, 3), (1, 1, 1), (2, 0, 4), (3, 2, 2)]
  )
  model = table_model(case.level_sizes, [0, 0, 0])
  for table, size in zip(model.tables, case.level_sizes, strict=True):
    table[:] = -np.arange(size)
  catalog = case.build(codes)
  assert np.argsort(-model.scores(codes)[0])[:2].tolist() == [0, 1]
  deny = [[0, 1, 2, 3], [0, 1], [2, 0, 3]]
  lists = ItemLists.of(deny)
  found = model.search(catalog, 2, lists=lists, codes=codes)
  assert found.items.tolist() == [[4, 5], [3, 2], [1, 4]]
  assert found.valid.all()


def test_lists_come_in_few_lengths():
  for longest, width in ((0, 32), (32, 32), (33, 256), (256, 256), (257, 2048)):
    lists = ItemLists.of([range(longest), [5, 3], []])
    assert lists.rows.shape == (3, width)
    assert lists.rows.dtype == np.int32
    assert set(lists.rows[0].tolist()) - {-1} == set(range(longest))
    assert (lists.rows[0] >= 0).sum() == longest
    assert sorted(lists.rows[1].tolist())[-3:] == [-1, 3, 5]
    assert not lists.allow.any()


def test_what_is_denied_is_not_allowed():
  lists = ItemLists.of([[1], [2, 2], {7}, []], [[2, 1, 2], None, [7], []])
  rows = [sorted(x[x >= 0].tolist()) for x in lists.rows]
  assert rows == [[2], [2], [], []]
  assert lists.allow.tolist() == [True, False, True, True]
  with pytest.raises(ValueError, match='shorter'):
    ItemLists.of([[1], [2]], [None])
  assert ItemLists.of([]).rows.shape == (0, 32)


def test_other_lists_compile_nothing(table_model, make_case):
  case, model, table = _small(table_model, make_case)
  catalog, compiled = case.build(), set()
  for deny in ([], [1], list(range(25))):
    for allow in (None, [], [3, 4]):
      lists = ItemLists.of([deny] * NUM_REQUESTS, [allow] * NUM_REQUESTS)
      model.search(catalog, NUM_BEAMS, lists=lists, codes=table)
      compiled.add(table_model.compiled())
  assert len(compiled) == 1
