"""Tests of the search of TIGER with the real network."""

import dataclasses
import math

import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest

from tests.retrieval.lowered import assert_full_products
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.config import ModelConfig
from tiger_jax.errors import DataError
from tiger_jax.interfaces import Batch, ItemLists
from tiger_jax.models.tiger import Tiger
from tiger_jax.retrieval import tiger as retriever_module
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime.sharding import make_mesh, replicate, shard_batch

LEVEL_SIZES = (5, 3, 4)
NUM_ITEMS = 13
NUM_REQUESTS = 8
CONFIG = ModelConfig(
  max_history=3,
  d_model=8,
  num_heads=2,
  head_dim=3,
  mlp_dim=12,
  num_encoder_layers=1,
  num_decoder_layers=2,
  num_user_tokens=5,
)
MODEL = Tiger(CONFIG, LEVEL_SIZES)


def _codes(num_items, level_sizes=LEVEL_SIZES, seed=0):
  ids = np.random.default_rng(seed).permutation(math.prod(level_sizes))
  codes = np.stack(np.unravel_index(ids[:num_items], level_sizes), 1)
  return codes.astype(np.int32)


def make_retriever(num_beams, num_items=NUM_ITEMS):
  """Returns a retriever with a catalog for up to 20 items."""
  catalog = Catalog.from_codes(_codes(num_items), LEVEL_SIZES, capacity=20)
  return TigerRetriever(MODEL, catalog, num_beams)


def _changed(retriever, removed=(), added=None):
  catalog = retriever.catalog
  if len(removed):
    catalog = catalog.remove(np.asarray(removed))
  if added is not None:
    catalog = catalog.add(added)
  return retriever.with_catalog(catalog)


def _sampler(seed=0):
  seeds = np.arange(NUM_REQUESTS, dtype=np.uint32) + np.uint32(seed)
  return Sampler(seeds, np.float32(1.5), np.int32(2))


def _lists(seed=0):
  """Returns lists that deny items and lists that allow items."""
  rng = np.random.default_rng(seed)
  rows = [rng.permutation(NUM_ITEMS)[:6].tolist() for _ in range(NUM_REQUESTS)]
  return ItemLists.of(
    [x[:3] for x in rows], [None if i % 3 else x for i, x in enumerate(rows)]
  )


def _assert_same(beams, expected):
  """Compares the results of two searches, except for `exact_k`."""
  beams, expected = jax.device_get((beams, expected))
  np.testing.assert_array_equal(beams.items, expected.items)
  np.testing.assert_array_equal(beams.valid, expected.valid)
  np.testing.assert_allclose(beams.scores, expected.scores, atol=1e-5)


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(1)
  history = rng.integers(0, NUM_ITEMS, (NUM_REQUESTS, CONFIG.max_history))
  lengths = rng.integers(1, CONFIG.max_history + 1, NUM_REQUESTS)
  history[np.arange(CONFIG.max_history)[None] >= lengths[:, None]] = -1
  arrays = history, np.arange(NUM_REQUESTS) - 1, np.full(NUM_REQUESTS, -1)
  return Batch(*(x.astype(np.int32) for x in arrays))


@pytest.fixture(scope='module')
def params(batch):
  codes = jnp.asarray(_codes(NUM_ITEMS))
  return jax.jit(MODEL.init)(jax.random.key(0), codes, batch)['params']


@pytest.fixture(scope='module')
def item_scores(params, batch):
  """Returns the log-probability of every item for every request."""
  codes = jnp.asarray(_codes(NUM_ITEMS))

  @jax.jit
  def score(target):
    with_target = batch._replace(target=jnp.full((NUM_REQUESTS,), target))
    logits = MODEL.apply({'params': params}, codes, with_target)
    return sum(
      jax.nn.log_softmax(x)[:, codes[target, level]]
      for level, x in enumerate(logits)
    )

  return np.stack([score(jnp.int32(i)) for i in range(NUM_ITEMS)], 1)


@pytest.fixture(scope='module')
def whole_search(params, batch):
  """Returns the beams of a search with more beams than items."""
  return make_retriever(16).search(params, batch, 1)


def test_a_wide_search_equals_scoring_every_item(whole_search, item_scores):
  order = np.argsort(-item_scores, axis=1)
  ranked = np.take_along_axis(item_scores, order, 1)
  assert (ranked[:, :-1] - ranked[:, 1:] > 1e-5).all()
  np.testing.assert_array_equal(whole_search.items[:, :NUM_ITEMS], order)
  np.testing.assert_allclose(
    whole_search.scores[:, :NUM_ITEMS], ranked, atol=1e-5
  )
  assert whole_search.valid[:, :NUM_ITEMS].all()
  assert not whole_search.valid[:, NUM_ITEMS:].any()


def test_few_beams_return_items_with_correct_scores(params, batch, item_scores):
  beams = jax.device_get(make_retriever(4).recommend(params, batch, 4))
  assert beams.valid.all()
  expected = np.take_along_axis(item_scores, beams.items, 1)
  np.testing.assert_allclose(beams.scores, expected, atol=1e-5)
  assert (np.diff(beams.scores, axis=1) <= 0).all()
  best = np.sort(item_scores, axis=1)[:, ::-1][:, :4]
  # Few beams can miss an item. From the rank of this item on, scores are lower.
  assert (beams.scores <= best + 1e-5).all()


def test_requests_are_independent(params, batch, whole_search):
  for row in range(3):
    others = np.arange(NUM_REQUESTS) != row
    history = np.where(others[:, None], batch.history[::-1], batch.history)
    user = np.where(others, 0 * batch.user, batch.user)
    changed = batch._replace(history=history, user=user)
    beams = make_retriever(16).search(params, changed, 1)
    np.testing.assert_array_equal(beams.items[row], whole_search.items[row])
    np.testing.assert_allclose(
      beams.scores[row], whole_search.scores[row], atol=1e-5
    )
    assert (beams.items != whole_search.items).any()


def test_eight_devices_agree_with_one_device(params, batch, whole_search):
  mesh = make_mesh()
  assert mesh.size == 8
  local = make_retriever(16)
  retriever = local.with_catalog(replicate(mesh, local.catalog))
  beams = retriever.search(replicate(mesh, params), shard_batch(mesh, batch), 1)
  assert len(beams.items.sharding.device_set) == 8
  _assert_same(beams, whole_search)


def test_a_sharded_catalog_returns_the_results_of_one_device(params, batch):
  mesh = make_mesh()
  local = make_retriever(4)
  sharded = local.with_catalog(local.catalog.spread(mesh, 'data'))
  replicated = replicate(mesh, (params, batch))
  expected = local.search(params, batch, 4)
  beams = sharded.search(*replicated, 4)
  _assert_same(beams, expected)
  # Updates keep the sharding, and compile nothing.
  compiled = retriever_module._search._cache_size()
  removed, new = np.unique(expected.items[:, 0]), _codes(15)[NUM_ITEMS:]
  local, sharded = (_changed(x, removed, new) for x in (local, sharded))
  beams = sharded.search(*replicated, 4)
  _assert_same(beams, local.search(params, batch, 4))
  assert not np.isin(beams.items, removed).any()
  assert retriever_module._search._cache_size() == compiled


@pytest.mark.parametrize('k', [1, 5, 16, 70])
def test_the_k_best_items_are_recommended(params, batch, whole_search, k):
  """`k` may exceed the numbers of beams, items and possible IDs."""
  beams = jax.device_get(make_retriever(16).recommend(params, batch, k))
  assert beams.items.shape == beams.scores.shape == beams.valid.shape
  assert beams.items.shape == (NUM_REQUESTS, k)
  best = min(k, NUM_ITEMS)
  np.testing.assert_array_equal(
    beams.items[:, :best], whole_search.items[:, :best]
  )
  assert beams.valid[:, :best].all()
  assert not beams.valid[:, best:].any()
  assert (beams.items[:, best:] == -1).all()
  assert (beams.scores[:, best:] == -np.inf).all()


def test_an_unconstrained_search_marks_valid_ids(params, batch):
  retriever = make_retriever(16)
  beams = jax.device_get(retriever.search(params, batch, 1, constrained=False))
  rows = {tuple(x): i for i, x in enumerate(_codes(NUM_ITEMS).tolist())}
  expected = [[rows.get(tuple(x), -1) for x in y] for y in beams.codes.tolist()]
  np.testing.assert_array_equal(beams.items, expected)
  np.testing.assert_array_equal(beams.valid, np.array(expected) >= 0)
  assert beams.valid.any() and not beams.valid.all()
  assert np.isfinite(beams.scores).all()
  for codes in beams.codes.tolist():
    assert len(set(map(tuple, codes))) == 16


def test_a_search_can_override_the_number_of_beams(params, batch):
  wide, narrow = make_retriever(16), make_retriever(4)
  beams = wide.search(params, batch, 1, num_beams=4)
  assert beams.items.shape == (NUM_REQUESTS, 4)
  _assert_same(beams, narrow.search(params, batch, 1))
  # The number of beams is doubled until it is at least k.
  beams = narrow.search(params, batch, 9, num_beams=4)
  assert beams.items.shape == (NUM_REQUESTS, 16)
  _assert_same(beams, wide.search(params, batch, 1))


@pytest.mark.parametrize('num_beams', [None, 2, 16])
def test_an_exact_search_starts_with_the_given_number_of_beams(
  params, batch, whole_search, monkeypatch, num_beams
):
  search, widths = retriever_module._search, []

  def recorded_search(model, num_beams, *args):
    widths.append(num_beams)
    return search(model, num_beams, *args)

  monkeypatch.setattr(retriever_module, '_search', recorded_search)
  beams = make_retriever(4).search_exact(params, batch, 2, num_beams=num_beams)
  assert widths[0] == (num_beams or 4)
  np.testing.assert_array_equal(beams.items[:, :2], whole_search.items[:, :2])


@pytest.mark.parametrize('k', [3, 13])
def test_an_exact_search_equals_scoring_every_item(
  params, batch, item_scores, k
):
  beams = make_retriever(4).search_exact(params, batch, k)
  order = np.argsort(-item_scores, axis=1)
  assert beams.items.shape[1] >= k
  np.testing.assert_array_equal(beams.items[:, :k], order[:, :k])
  np.testing.assert_allclose(
    beams.scores[:, :k],
    np.take_along_axis(item_scores, order, 1)[:, :k],
    atol=1e-5,
  )
  assert (beams.exact_k >= k).all()
  assert (beams.exact_k <= beams.items.shape[1]).all()
  assert not beams.valid[:, NUM_ITEMS:].any()


def test_a_new_item_is_recommended_and_accepted_in_histories(params, batch):
  codes = _codes(NUM_ITEMS + 2)
  before = make_retriever(16)
  retriever = _changed(before, added=codes[NUM_ITEMS:])
  history = np.where(batch.history == 4, NUM_ITEMS + 1, batch.history)
  assert (history != batch.history).any()
  batch = batch._replace(history=history)
  beams = retriever.search(params, batch, 16)
  rebuilt = make_retriever(16, NUM_ITEMS + 2)
  _assert_same(beams, rebuilt.search(params, batch, 16))
  assert (np.asarray(beams.items) == NUM_ITEMS + 1).any(1).all()
  # The original retriever does not change.
  assert before.catalog.size == NUM_ITEMS
  assert not before.codes[NUM_ITEMS:].any()


def test_a_removed_item_is_not_recommended_but_accepted_in_histories(
  params, batch, whole_search
):
  best = np.unique(np.asarray(whole_search.items)[:, 0])
  assert np.isin(batch.history, best).any()
  retriever = _changed(make_retriever(16), best)
  beams = jax.device_get(retriever.search(params, batch, 16))
  # The other items keep their order.
  for items, all_items in zip(beams.items, whole_search.items, strict=True):
    remaining = [x for x in all_items.tolist() if x >= 0 and x not in best]
    assert items[items >= 0].tolist() == remaining
  # An item that is added again, with the same ID, gets a new row.
  restored = _changed(retriever, added=_codes(NUM_ITEMS)[best])
  items = np.asarray(restored.search(params, batch, 16).items)
  assert (np.sort(items, 1)[:, -1] == NUM_ITEMS + len(best) - 1).all()
  assert not np.isin(items, best).any()


def test_a_full_catalog_refuses_more_items(params, batch):
  retriever = _changed(make_retriever(4), added=_codes(20)[NUM_ITEMS:])
  assert retriever.catalog.size == 20
  with pytest.raises(DataError, match='no room for 21 items'):
    _changed(retriever, added=_codes(21)[20:])
  with pytest.raises(
    DataError, match='no room for 21 rows, only for 20: `grown`'
  ):
    _changed(retriever, [3], _codes(21)[20:])
  assert retriever.search(params, batch, 4).valid.all()


def test_updates_new_lists_and_new_seeds_compile_nothing(params, batch):
  retriever = make_retriever(4)
  every, compiled, in_order = _codes(20), [], []
  for change in range(4):
    other = batch._replace(history=np.roll(batch.history, change, 0))
    plain = retriever.search(params, other, 4)
    assert plain.valid.all()
    lists = _lists(change)
    drawn = jax.device_get(
      retriever.search(params, other, 4, lists=lists, sampler=_sampler(change))
    )
    compiled.append(retriever_module._search._cache_size())
    # The results respect the lists. They are in the order of the draw, so their
    # scores are not sorted.
    for items, rows, allow in zip(drawn.items, *lists, strict=True):
      items = items[items >= 0]
      assert len(items) and (np.isin(items, rows) == allow).all()
    in_order.append((drawn.scores[:, 1:] <= drawn.scores[:, :-1]).all())
    if change % 2:
      retriever = _changed(retriever, [change])
    else:
      row = int(retriever.catalog.arrays.num_rows)
      retriever = _changed(retriever, added=every[row : row + 2])
  assert len(set(compiled)) == 1 and not any(in_order)


def assert_lowers_at_full_precision(params, batch, mixture=None, **options):
  model = Tiger(dataclasses.replace(CONFIG, dtype='bfloat16'), LEVEL_SIZES)

  @jax.jit
  def search(params, catalog, batch, mixture, options):
    retriever = TigerRetriever(model, catalog, 4, mixture)
    return retriever.search(params, batch, 4, **options)

  lower = export.export(search, platforms=('cpu', 'cuda', 'tpu'))
  arguments = params, make_retriever(4).catalog, batch, mixture, options
  with jax.default_matmul_precision('bfloat16'):
    exported = lower(*arguments)
  assert_full_products(exported.mlir_module())


@pytest.mark.parametrize('lists', [None, _lists()])
@pytest.mark.parametrize('sampler', [None, _sampler()])
def test_the_search_lowers_for_every_platform(params, batch, lists, sampler):
  assert_lowers_at_full_precision(params, batch, lists=lists, sampler=sampler)
