"""The mixture of TIGER and transitions, compared with a score of every item."""

import collections
import itertools

import numpy as np
import pytest

from tiger_jax.interfaces import ItemLists
from tiger_jax.models.baselines.transitions import WEIGHTS, Transitions
from tiger_jax.retrieval.mixture import Gate, Mixture

NUM_BEAMS = 12
NUM_REQUESTS = 8
WIDTH = 6


def table_of(walks, num_rows):
  """Returns the transitions of walks, for `num_rows` items."""
  pairs = [pair for walk in walks for pair in itertools.pairwise(walk)]
  counts = np.bincount(np.concatenate(walks), minlength=num_rows)
  return Transitions.from_pairs(np.array(pairs), counts)


def slow_masses(walks, history, rows):
  """Returns the masses of a request, and its number of transitions.

  The mass of an item is the item's share of the transition scores. The number
  counts the training transitions from the last item of the history.

  Args:
    walks: The training histories.
    history: The history of the request.
    rows: The rows in the catalog.
  """
  pairs = [pair for walk in walks for pair in itertools.pairwise(walk)]
  counts = collections.Counter(pairs)
  left = collections.Counter(a for a, _ in pairs)
  scores = collections.Counter()
  for weight, a in zip(WEIGHTS, history[::-1], strict=False):
    for (first, b), count in counts.items():
      if first == a and b in rows:
        scores[b] += weight * count / (left[a] + 1)
  total = sum(scores.values())
  masses = {b: score / total for b, score in scores.items()}
  return masses, left[history[-1]] if history else 0


def slow_probabilities(model, request, ids, normalize):
  """Returns the probability that TIGER gives to each row in `ids`."""
  children = collections.defaultdict(set)
  for semantic_id in ids.values():
    for level, code in enumerate(semantic_id):
      children[semantic_id[:level]].add(code)
  result = {}
  for row, semantic_id in ids.items():
    result[row] = 1.0
    for level, code in enumerate(semantic_id):
      prefix = semantic_id[:level]
      exp = np.exp(model.logits(request, prefix))
      total = exp[sorted(children[prefix])].sum() if normalize else exp.sum()
      result[row] *= exp[code] / total
  return result


def padded(histories):
  rows = np.full((len(histories), WIDTH), -1, np.int32)
  for row, history in zip(rows, histories, strict=True):
    row[: len(history)] = history
  return rows


class Shop:
  """A catalog, training histories over its items, and eight requests.

  Attributes:
    case: The catalog layout.
    walks: The training histories.
    histories: The history of each request.
    table: The transitions.
  """

  def __init__(self, case, seed=0):
    self.case = case
    rng = np.random.default_rng(seed)
    num = len(case.codes)
    # Only few items are bought, so that recent items share successors.
    sold = rng.permutation(num)[:18]
    self.unsold = sorted(set(range(num)) - set(sold.tolist()))
    self.walks = [rng.choice(sold, 9).tolist() for _ in range(30)]
    a, b, c, d, e, f = sold[:6].tolist()
    self.histories = [
      [a], [b, c, d, e, f, a], [c, c, c], [d, self.unsold[0]],
      [self.unsold[1], self.unsold[1]], [], [e, f], [f, e, d],
    ]  # fmt: skip
    self.table = table_of(self.walks, num)

  def search(self, model, gate, num_beams=NUM_BEAMS, table=None, **options):
    """Returns the beams of a search, by TIGER alone if `gate` is None."""
    if gate:
      options |= {
        'mixture': Mixture.of(self.table if table is None else table, gate),
        'history': padded(self.histories),
      }
    return model.search(
      self.case.build(), num_beams, codes=self.case.codes, **options
    )

  def slow(self, model, request, gate, normalize, walks=None):
    """Returns the probability that the mixture gives to each item."""
    ids = dict(enumerate(map(tuple, self.case.codes.tolist())))
    masses, num_left = slow_masses(
      self.walks if walks is None else walks, self.histories[request], ids
    )
    own = slow_probabilities(model, request, ids, normalize)
    share = gate.weight if masses else 0.0
    if gate.kappa:
      share *= num_left / (num_left + gate.kappa)
    return {
      row: (1 - share) * p + share * masses.get(row, 0)
      for row, p in own.items()
    }


@pytest.fixture(
  scope='module',
  params=['four levels, two bitmaps', 'wide middle, no bitmap'],
)
def shop(request, make_case):
  return Shop(make_case(request.param))


@pytest.fixture(scope='module')
def small(make_case):
  """Returns a shop of 25 items."""
  return Shop(make_case('three levels'))


def assert_equals_slow(beams, expected):
  """Compares a request's beams with the probability of each permitted item.

  Args:
    beams: The beams of the request.
    expected: The probability of each permitted item.

  Returns:
    The number of proven items.
  """
  num = int(beams.valid.sum())
  assert beams.valid[:num].all() and beams.exact_k <= num
  items = beams.items[:num].tolist()
  assert len(set(items)) == num and set(items) <= set(expected)
  scores = [np.log(expected[x]) for x in items]
  np.testing.assert_allclose(beams.scores[:num], scores, atol=1e-4)
  # Items with equal masses may be in any order.
  best = sorted(expected.values(), reverse=True)
  np.testing.assert_allclose(
    [expected[x] for x in items[: beams.exact_k]],
    best[: beams.exact_k],
    rtol=1e-5,
  )
  return int(beams.exact_k)


def of_request(beams, request):
  return type(beams)(*(x[request] for x in beams))


@pytest.mark.parametrize('normalize', [False, True])
def test_the_search_equals_a_ranking_of_all_items(shop, table_model, normalize):
  case, num_proven = shop.case, 0
  rng = np.random.default_rng(1)
  for seed, gate in enumerate((Gate(0.3), Gate(0.9, 20.0), Gate(0.8))):
    model = table_model(case.level_sizes, np.arange(NUM_REQUESTS), seed)
    rows = [rng.permutation(len(case.codes)) for _ in range(NUM_REQUESTS)]
    deny = [x[:30].tolist() if i % 2 else [] for i, x in enumerate(rows)]
    allow = [x[10:60].tolist() if i % 3 else None for i, x in enumerate(rows)]
    beams = shop.search(
      model,
      gate,
      normalize_children=normalize,
      lists=ItemLists.of(deny, allow),
    )
    for request in range(NUM_REQUESTS):
      permitted = set(range(len(case.codes)) if allow[request] is None
                      else allow[request]) - set(deny[request])  # fmt: skip
      expected = shop.slow(model, request, gate, normalize)
      num_proven += assert_equals_slow(
        of_request(beams, request), {x: expected[x] for x in permitted}
      )
  assert num_proven > 3 * NUM_REQUESTS


def test_a_share_of_zero_equals_tiger_alone(shop, table_model):
  """The results are equal bit for bit."""
  model = table_model(shop.case.level_sizes, np.arange(NUM_REQUESTS))
  for expected, beams in zip(
    shop.search(model, None), shop.search(model, Gate(0.0)), strict=True
  ):
    np.testing.assert_array_equal(expected, beams)
  # Requests 4 and 5 have no transitions.
  mixed = shop.search(model, Gate(0.7))
  alone = shop.search(model, None)
  for request in range(NUM_REQUESTS):
    is_same = np.array_equal(mixed.scores[request], alone.scores[request])
    assert is_same == (request in (4, 5)), request


def test_a_share_of_one_ranks_the_transitions_first(small, table_model):
  """All other items follow in the order of TIGER."""
  case = small.case
  model = table_model(case.level_sizes, np.arange(NUM_REQUESTS))
  beams = small.search(model, Gate(1.0), len(case.codes))
  ids = dict(enumerate(map(tuple, case.codes.tolist())))
  assert beams.valid.all()
  for request, history in enumerate(small.histories):
    masses, _ = slow_masses(small.walks, history, ids)
    own = slow_probabilities(model, request, ids, False)
    items = beams.items[request].tolist()
    np.testing.assert_allclose(
      [masses[x] for x in items[: len(masses)]],
      sorted(masses.values(), reverse=True),
      rtol=1e-6,
    )
    others = [x for x in ids if x not in masses]
    assert items[len(masses) :] == sorted(others, key=lambda x: -own[x])


def test_a_single_transition_ranks_its_item_first(small, table_model):
  case = small.case
  model = table_model(case.level_sizes, np.arange(NUM_REQUESTS))
  walks = [[small.histories[0][0], small.unsold[2]]]
  gate = Gate(0.6, 1.0)
  table = table_of(walks, len(case.codes))
  beams = small.search(model, gate, table=table)
  for request in range(NUM_REQUESTS):
    expected = small.slow(model, request, gate, False, walks)
    assert_equals_slow(of_request(beams, request), expected)
  assert beams.items[0, 0] == small.unsold[2]
  # n and kappa are 1, so the share is .6 * n / (n + kappa) = .3.
  assert np.exp(beams.scores[0, 0]) > 0.3


def test_few_beams_find_an_item_that_tiger_ranks_last(small, table_model):
  case = small.case
  model = table_model(case.level_sizes, np.arange(NUM_REQUESTS), sharpness=6.0)
  last = np.argmin(model.scores(case.codes)[0])
  walks = [[small.histories[0][0], last]] * 9
  table = table_of(walks, len(case.codes))
  beams = small.search(model, Gate(0.7), num_beams=1, table=table)
  assert beams.items[0, 0] == last
  assert beams.exact_k[0] == 1


def test_an_excluded_item_takes_no_beam(small, table_model):
  """If denied item 2 kept its mass, the beam would follow it to item 3."""
  case = small.case
  ids = np.array([(0, 0, 0), (1, 0, 0), (2, 0, 0), (2, 0, 1)])
  model = table_model(case.level_sizes, [0])
  for logits, size in zip(model.tables, case.level_sizes, strict=True):
    logits[:] = -np.arange(size)
  table = table_of([[0, 2]] * 7, 4)
  options = {
    'codes': ids,
    'mixture': Mixture.of(table, Gate(0.9)),
    'history': padded([[0]]),
    'lists': ItemLists.of([[2]]),
  }
  beams = model.search(case.build(ids), 1, **options)
  assert beams.items.tolist() == [[0]] and beams.exact_k.tolist() == [1]
  # Denying item 2 does not change the mass of item 1.
  table = table.add(np.array([[0, 1]]))
  options['mixture'] = Mixture.of(table, Gate(0.9))
  beams = model.search(case.build(ids), 1, **options)
  own = np.exp(model.scores(ids))[0]
  np.testing.assert_allclose(
    beams.scores, [[np.log(0.9 / 8 + 0.1 * own[1])]], atol=1e-5
  )


def test_removed_items_have_no_mass(small, table_model):
  case = small.case
  model = table_model(case.level_sizes, np.arange(NUM_REQUESTS))
  first = small.histories[0][0]
  walks = [[first, x] for x in (3, 3, 4, 5)]
  removed = [3, 5]
  # The ID of row 3 now belongs to row 25.
  catalog = case.build().remove(np.array(removed)).add(case.codes[[3]])
  codes = np.concatenate([case.codes, case.codes[[3]]])
  beams = model.search(
    catalog,
    NUM_BEAMS,
    codes=codes,
    mixture=Mixture.of(table_of(walks, 26), Gate(0.5)),
    history=padded(small.histories),
  )
  own = np.exp(model.scores(codes))[0]
  # The remaining successor has the whole mass.
  items = beams.items[0].tolist()
  expected = 0.5 * own + 0.5 * (np.arange(26) == 4)
  np.testing.assert_allclose(
    beams.scores[0], np.log(expected[items]), atol=1e-4
  )
  assert items[0] == 4 and not set(removed) & set(items)


def test_new_purchases_and_shares_need_no_recompilation(small, table_model):
  case = small.case
  model = table_model(case.level_sizes, np.arange(NUM_REQUESTS))
  walks, table, compiled = list(small.walks), small.table, set()
  for row, gate in ((2, Gate(0.3)), (7, Gate(0.6, 5.0)), (9, Gate(0.9))):
    beams = small.search(model, gate, table=table)
    expected = small.slow(model, 0, gate, False, walks)
    assert_equals_slow(of_request(beams, 0), expected)
    compiled.add(table_model.compiled())
    new = [[small.histories[0][0], row]] * 4
    table, walks = table.add(np.array(new)), walks + new
  assert len(compiled) == 1
