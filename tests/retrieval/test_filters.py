"""Item lists, compared with a search among the permitted items only."""

import numpy as np
import pytest

from tiger_jax.interfaces import ItemLists

NUM_BEAMS = 20
# One request for each kind of list in `_lists`.
NUM_REQUESTS = 8


# Some of these layouts store levels as bitmaps, and some as lists.
@pytest.fixture(
  scope='module',
  params=[
    'one level',
    'three levels',
    'four levels, one bitmap',
    'wide middle, no bitmap',
  ],
)
def layout(request, make_case):
  return make_case(request.param)


def _lists(rng, model, codes):
  """Returns lists of every kind, some with repeated or unknown rows."""
  num_rows = len(codes)
  random = [
    rng.permutation(num_rows)[:25].tolist() for _ in range(NUM_REQUESTS)
  ]
  unknown = [-1, num_rows + 1, 10**6]
  # The first IDs in order, so that whole prefixes are listed at several levels.
  first = np.lexsort(codes.T[::-1])[:30].tolist()
  best = np.argsort(-model.scores(codes)[5])[:30].tolist()
  deny = [
    random[0] + random[0][:5], unknown, random[2], [], first, best, [],
    random[7],
  ]  # fmt: skip
  allow = [
    None, None, random[2][:20], random[3] + unknown, None, None, [], first,
  ]  # fmt: skip
  return deny, allow


def _permitted(deny, allow, rows):
  """Returns the rows that a request permits."""
  return [
    row
    for row in rows
    if row not in set(deny) and (allow is None or row in set(allow))
  ]


def _assert_equals_filtered_search(model, beams, ids, deny, allow):
  """Compares the beams of all requests with searches among permitted items.

  Args:
    model: The table model.
    beams: The beams of a search with filters.
    ids: The ID of every row in the catalog.
    deny: The argument of `ItemLists.of`.
    allow: The argument of `ItemLists.of`.
  """
  for request in range(len(model.requests)):
    permitted = _permitted(deny[request], allow[request], ids)
    num = min(NUM_BEAMS, len(permitted))
    valid = beams.valid[request]
    assert valid[:num].all() and not valid[num:].any()
    assert (beams.items[request, num:] == -1).all()
    assert (beams.scores[request, num:] == -np.inf).all()
    items = beams.items[request, :num].tolist()
    assert len(set(items)) == num and set(items) <= set(permitted)
    assert beams.exact_k[request] <= num
    if not permitted:
      continue
    rows = {ids[row]: row for row in permitted}
    expected, _ = model.slow_search(request, rows, NUM_BEAMS)
    assert items == [row for *_, row in expected]
    np.testing.assert_allclose(
      beams.scores[request, :num], [x[0] for x in expected], atol=1e-4
    )
    scores = model.scores([ids[row] for row in permitted])[request]
    exact_k = beams.exact_k[request]
    np.testing.assert_allclose(
      beams.scores[request, :exact_k], -np.sort(-scores)[:exact_k], atol=1e-4
    )


def _ids(codes):
  return {row: tuple(x) for row, x in enumerate(np.asarray(codes).tolist())}


def test_a_filtered_search_equals_a_search_among_permitted_items(
  table_model, layout
):
  catalog = layout.build()
  # Two more rows have IDs, but are not in the catalog.
  table = np.concatenate([layout.codes, layout.codes[:2]])
  compiled = table_model.compiled()
  for seed in range(3):
    model = table_model(layout.level_sizes, np.arange(NUM_REQUESTS), seed)
    rng = np.random.default_rng(seed)
    deny, allow = _lists(rng, model, layout.codes)
    lists = ItemLists.of(deny, allow)
    beams = model.search(catalog, NUM_BEAMS, lists=lists, codes=table)
    _assert_equals_filtered_search(
      model, beams, _ids(layout.codes), deny, allow
    )
    # Some results are proven: no other item ranks higher.
    assert beams.exact_k.sum() > NUM_REQUESTS
  assert table_model.compiled() <= compiled + 1


def test_permitted_items_are_returned_if_most_items_are_denied(
  table_model, make_case
):
  case = make_case('two levels')
  model = table_model(case.level_sizes, np.arange(NUM_REQUESTS))
  rng = np.random.default_rng(0)
  num_left = [0, 1, 2, 7, 19, 20, 21, 40]
  deny = [rng.permutation(len(case.codes))[n:].tolist() for n in num_left]
  lists = ItemLists.of(deny)
  assert lists.rows.shape[1] == 256
  beams = model.search(case.build(), NUM_BEAMS, lists=lists, codes=case.codes)
  _assert_equals_filtered_search(
    model, beams, _ids(case.codes), deny, [None] * NUM_REQUESTS
  )
  np.testing.assert_array_equal(
    beams.valid.sum(1), np.minimum(num_left, NUM_BEAMS)
  )


def _small(table_model, make_case):
  """Returns a layout of 25 items, a network, and codes with two extra rows."""
  case = make_case('three levels')
  model = table_model(case.level_sizes, np.arange(NUM_REQUESTS))
  return case, model, np.concatenate([case.codes, case.codes[:2]])


def test_requests_without_permitted_items_return_no_items(
  table_model, make_case
):
  case, model, table = _small(table_model, make_case)
  all_rows = list(range(len(case.codes)))
  deny = [
    all_rows,
    all_rows + [-1, 99],
    [3],
    [],
    [],
    [],
    all_rows[1:],
    [],
  ]
  allow = [None, all_rows, [3], [], [-1], [99, 26], None, None]
  lists = ItemLists.of(deny, allow)
  beams = model.search(case.build(), NUM_BEAMS, lists=lists, codes=table)
  assert beams.valid.sum(1).tolist() == [0, 0, 0, 0, 0, 0, 1, NUM_BEAMS]
  assert beams.exact_k[:7].tolist() == [0, 0, 0, 0, 0, 0, 1]
  _assert_equals_filtered_search(model, beams, _ids(case.codes), deny, allow)


def test_repeated_rows_count_once(table_model, make_case):
  case, model, table = _small(table_model, make_case)
  rng = np.random.default_rng(5)
  unique = [rng.permutation(25)[:15].tolist() for _ in range(NUM_REQUESTS)]
  allow = np.arange(NUM_REQUESTS) % 2 == 0
  rows = np.full((NUM_REQUESTS, 32), -1, np.int32)
  for row, listed in zip(rows, unique, strict=True):
    row[:] = rng.permutation(listed * 2 + [-1, listed[0]])
  beams = model.search(
    case.build(), NUM_BEAMS, lists=ItemLists(rows, allow), codes=table
  )
  deny = [[] if a else x for a, x in zip(allow, unique, strict=True)]
  allowed = [x if a else None for a, x in zip(allow, unique, strict=True)]
  _assert_equals_filtered_search(model, beams, _ids(case.codes), deny, allowed)


def test_removed_rows_are_ignored(table_model, layout):
  """Removed rows are ignored even if their ID now belongs to another row."""
  catalog = layout.build().remove(np.array([4, 2, 0]))
  num_rows = len(layout.codes)
  catalog = catalog.add(layout.codes[[2, 4]])
  table = np.concatenate([layout.codes, layout.codes[[2, 4]]])
  ids = {row: x for row, x in _ids(table).items() if row not in (0, 2, 4)}
  model = table_model(layout.level_sizes, np.arange(NUM_REQUESTS))
  new = [num_rows, num_rows + 1]
  deny = [[0, 2, 4], [], [2, new[0]], [new[0]], [], [0, 1, 2], [], new]
  allow = [None, [0, 2, 4], None, None, [2, *new], [4, 5, 6, new[1]], [], None]
  beams = model.search(
    catalog, NUM_BEAMS, lists=ItemLists.of(deny, allow), codes=table
  )
  _assert_equals_filtered_search(model, beams, ids, deny, allow)
  assert beams.valid[1].sum() == 0
  assert set(beams.items[4, :2].tolist()) == set(new)


def test_a_prefix_without_permitted_items_takes_no_beam(make_case, table_model):
  """All items of the two best prefixes are denied, and there are two beams.

  If only the last codes were masked, the search would return no items.
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
  beams = model.search(catalog, 2, lists=lists, codes=codes)
  assert beams.items.tolist() == [[4, 5], [3, 2], [1, 4]]
  assert beams.valid.all()


def test_lists_are_padded_to_few_lengths():
  for longest, width in ((0, 32), (32, 32), (33, 256), (256, 256), (257, 2048)):
    lists = ItemLists.of([range(longest), [5, 3], []])
    assert lists.rows.shape == (3, width)
    assert lists.rows.dtype == np.int32
    assert set(lists.rows[0].tolist()) - {-1} == set(range(longest))
    assert (lists.rows[0] >= 0).sum() == longest
    assert sorted(lists.rows[1].tolist())[-3:] == [-1, 3, 5]
    assert not lists.allow.any()


def test_deny_takes_precedence_over_allow():
  lists = ItemLists.of([[1], [2, 2], {7}, []], [[2, 1, 2], None, [7], []])
  rows = [sorted(x[x >= 0].tolist()) for x in lists.rows]
  assert rows == [[2], [2], [], []]
  assert lists.allow.tolist() == [True, False, True, True]
  with pytest.raises(ValueError, match='shorter'):
    ItemLists.of([[1], [2]], [None])
  assert ItemLists.of([]).rows.shape == (0, 32)


def test_new_lists_compile_nothing(table_model, make_case):
  case, model, table = _small(table_model, make_case)
  catalog, compiled = case.build(), set()
  for deny in ([], [1], list(range(25))):
    for allow in (None, [], [3, 4]):
      lists = ItemLists.of([deny] * NUM_REQUESTS, [allow] * NUM_REQUESTS)
      model.search(catalog, NUM_BEAMS, lists=lists, codes=table)
      compiled.add(table_model.compiled())
  assert len(compiled) == 1
