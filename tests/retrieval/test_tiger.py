"""TIGER's search with the real network."""

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
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import Tiger
from tiger_jax.retrieval import tiger as retriever_module
from tiger_jax.retrieval.filters import ItemLists
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


def _retriever(num_beams, num_items=NUM_ITEMS):
  """A retriever whose catalogue has a capacity of 20 items."""
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
  """Lists of either kind."""
  rng = np.random.default_rng(seed)
  rows = [rng.permutation(NUM_ITEMS)[:6].tolist() for _ in range(NUM_REQUESTS)]
  return ItemLists.of(
    [x[:3] for x in rows], [None if i % 3 else x for i, x in enumerate(rows)]
  )


def _assert_same(found, expected):
  """Compares all that two searches found, but for what is proven."""
  found, expected = jax.device_get((found, expected))
  np.testing.assert_array_equal(found.items, expected.items)
  np.testing.assert_array_equal(found.valid, expected.valid)
  np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(1)
  history = rng.integers(0, NUM_ITEMS, (NUM_REQUESTS, CONFIG.max_history))
  lengths = rng.integers(1, CONFIG.max_history + 1, NUM_REQUESTS)
  history[np.arange(CONFIG.max_history)[None] >= lengths[:, None]] = -1
  user = np.arange(NUM_REQUESTS) - 1
  target = np.full(NUM_REQUESTS, -1)
  return Batch(*(x.astype(np.int32) for x in (history, user, target)))


@pytest.fixture(scope='module')
def params(batch):
  init = jax.jit(MODEL.init)
  codes = jnp.asarray(_codes(NUM_ITEMS))
  return init(jax.random.key(0), codes, batch)['params']


@pytest.fixture(scope='module')
def item_scores(params, batch):
  """The log-probability of every item for every request, one by one."""
  codes = jnp.asarray(_codes(NUM_ITEMS))

  @jax.jit
  def score(target):
    taught = batch._replace(target=jnp.full((NUM_REQUESTS,), target))
    logits = MODEL.apply({'params': params}, codes, taught)
    return sum(
      jax.nn.log_softmax(x)[:, codes[target, level]]
      for level, x in enumerate(logits)
    )

  return np.stack([score(jnp.int32(i)) for i in range(NUM_ITEMS)], 1)


@pytest.fixture(scope='module')
def whole_search(params, batch):
  """A search with more beams than there are items."""
  return _retriever(16).search(params, batch, 1)


def test_equals_scoring_every_item(whole_search, item_scores):
  order = np.argsort(-item_scores, axis=1)
  ranked = np.take_along_axis(item_scores, order, 1)
  assert (ranked[:, :-1] - ranked[:, 1:] > 1e-5).all()
  np.testing.assert_array_equal(whole_search.items[:, :NUM_ITEMS], order)
  np.testing.assert_allclose(
    whole_search.scores[:, :NUM_ITEMS], ranked, atol=1e-5
  )
  assert whole_search.valid[:, :NUM_ITEMS].all()
  assert not whole_search.valid[:, NUM_ITEMS:].any()


def test_few_beams_have_the_scores_of_the_oracle(params, batch, item_scores):
  found = jax.device_get(_retriever(4).recommend(params, batch, 4))
  assert found.valid.all()
  expected = np.take_along_axis(item_scores, found.items, 1)
  np.testing.assert_allclose(found.scores, expected, atol=1e-5)
  assert (np.diff(found.scores, axis=1) <= 0).all()
  best = np.sort(item_scores, axis=1)[:, ::-1][:, :4]
  # A small beam can lose an item, but not rank a worse one above a better.
  assert (found.scores <= best + 1e-5).all()


def test_requests_are_independent(params, batch, whole_search):
  for row in range(3):
    others = np.arange(NUM_REQUESTS) != row
    history = np.where(others[:, None], batch.history[::-1], batch.history)
    user = np.where(others, 0 * batch.user, batch.user)
    changed = batch._replace(history=history, user=user)
    found = _retriever(16).search(params, changed, 1)
    np.testing.assert_array_equal(found.items[row], whole_search.items[row])
    np.testing.assert_allclose(
      found.scores[row], whole_search.scores[row], atol=1e-5
    )
    assert (found.items != whole_search.items).any()


def test_one_device_equals_eight(params, batch, whole_search):
  mesh = make_mesh()
  assert mesh.size == 8
  one = _retriever(16)
  retriever = one.with_catalog(replicate(mesh, one.catalog))
  found = retriever.search(replicate(mesh, params), shard_batch(mesh, batch), 1)
  assert len(found.items.sharding.device_set) == 8
  _assert_same(found, whole_search)


def test_a_sharded_catalog_equals_one_on_one_device(params, batch):
  mesh = make_mesh()
  one = _retriever(4)
  split = one.with_catalog(one.catalog.spread(mesh, 'data'))
  everywhere = replicate(mesh, (params, batch))
  expected = one.search(params, batch, 4)
  found = split.search(*everywhere, 4)
  _assert_same(found, expected)
  # Updates stay where they are, and compile nothing.
  compiled = retriever_module._search._cache_size()
  gone, new = np.unique(expected.items[:, 0]), _codes(15)[NUM_ITEMS:]
  one, split = _changed(one, gone, new), _changed(split, gone, new)
  found = split.search(*everywhere, 4)
  _assert_same(found, one.search(params, batch, 4))
  assert not np.isin(found.items, gone).any()
  assert retriever_module._search._cache_size() == compiled


@pytest.mark.parametrize('k', [1, 5, 16, 70])
def test_recommends_the_k_best(params, batch, whole_search, k):
  """Also where more are asked for than there are beams, items, or IDs."""
  found = jax.device_get(_retriever(16).recommend(params, batch, k))
  assert found.items.shape == found.scores.shape == found.valid.shape
  assert found.items.shape == (NUM_REQUESTS, k)
  best = min(k, NUM_ITEMS)
  np.testing.assert_array_equal(
    found.items[:, :best], whole_search.items[:, :best]
  )
  assert found.valid[:, :best].all()
  assert not found.valid[:, best:].any()
  assert (found.items[:, best:] == -1).all()
  assert (found.scores[:, best:] == -np.inf).all()


def test_an_unconstrained_search_marks_valid_ids(params, batch):
  retriever = _retriever(16)
  found = jax.device_get(retriever.search(params, batch, 1, constrained=False))
  rows = {tuple(x): i for i, x in enumerate(_codes(NUM_ITEMS).tolist())}
  expected = [[rows.get(tuple(x), -1) for x in y] for y in found.codes.tolist()]
  np.testing.assert_array_equal(found.items, expected)
  np.testing.assert_array_equal(found.valid, np.array(expected) >= 0)
  assert found.valid.any() and not found.valid.all()
  assert np.isfinite(found.scores).all()
  for codes in found.codes.tolist():
    assert len(set(map(tuple, codes))) == 16


def test_a_search_can_override_the_number_of_beams(params, batch):
  wide, narrow = _retriever(16), _retriever(4)
  found = wide.search(params, batch, 1, num_beams=4)
  assert found.items.shape == (NUM_REQUESTS, 4)
  _assert_same(found, narrow.search(params, batch, 1))
  # They are doubled until they are as many as the items that are asked for.
  found = narrow.search(params, batch, 9, num_beams=4)
  assert found.items.shape == (NUM_REQUESTS, 16)
  _assert_same(found, wide.search(params, batch, 1))


@pytest.mark.parametrize('num_beams', [None, 2, 16])
def test_an_exact_search_starts_with_the_given_number_of_beams(
  params, batch, whole_search, monkeypatch, num_beams
):
  search, widths = retriever_module._search, []

  def note(model, width, *rest):
    widths.append(width)
    return search(model, width, *rest)

  monkeypatch.setattr(retriever_module, '_search', note)
  found = _retriever(4).search_exact(params, batch, 2, num_beams=num_beams)
  assert widths[0] == (num_beams or 4)
  np.testing.assert_array_equal(found.items[:, :2], whole_search.items[:, :2])


@pytest.mark.parametrize('k', [3, 13])
def test_an_exact_search_equals_scoring_every_item(
  params, batch, item_scores, k
):
  found = _retriever(4).search_exact(params, batch, k)
  order = np.argsort(-item_scores, axis=1)
  num = min(k, NUM_ITEMS)
  assert found.items.shape[1] >= k
  np.testing.assert_array_equal(found.items[:, :num], order[:, :num])
  np.testing.assert_allclose(
    found.scores[:, :num],
    np.take_along_axis(item_scores, order, 1)[:, :num],
    atol=1e-5,
  )
  assert (found.exact_k >= num).all()
  assert (found.exact_k <= found.items.shape[1]).all()
  assert not found.valid[:, NUM_ITEMS:].any()


def test_a_new_item_is_recommended_and_accepted_in_histories(params, batch):
  codes = _codes(NUM_ITEMS + 2)
  before = _retriever(16)
  retriever = _changed(before, added=codes[NUM_ITEMS:])
  history = np.where(batch.history == 4, NUM_ITEMS + 1, batch.history)
  assert (history != batch.history).any()
  batch = batch._replace(history=history)
  found = retriever.search(params, batch, 16)
  anew = _retriever(16, NUM_ITEMS + 2)
  _assert_same(found, anew.search(params, batch, 16))
  assert (np.asarray(found.items) == NUM_ITEMS + 1).any(1).all()
  # What the old one knows is as it was.
  assert before.catalog.size == NUM_ITEMS
  assert not before.codes[NUM_ITEMS:].any()


def test_a_removed_item_is_not_recommended_but_accepted_in_histories(
  params, batch, whole_search
):
  best = np.unique(np.asarray(whole_search.items)[:, 0])
  assert np.isin(batch.history, best).any()
  retriever = _changed(_retriever(16), best)
  found = jax.device_get(retriever.search(params, batch, 16))
  # The others come in the same order.
  for items, all_items in zip(found.items, whole_search.items, strict=True):
    left = [x for x in all_items.tolist() if x >= 0 and x not in best]
    assert items[items >= 0].tolist() == left
  # Back, with the same ID, it has another row.
  back = _changed(retriever, added=_codes(NUM_ITEMS)[best])
  found = np.asarray(back.search(params, batch, 16).items)
  assert (np.sort(found, 1)[:, -1] == NUM_ITEMS + len(best) - 1).all()
  assert not np.isin(found, best).any()


def test_a_full_catalog_refuses_more_items(params, batch):
  retriever = _changed(_retriever(4), added=_codes(20)[NUM_ITEMS:])
  assert retriever.catalog.size == 20
  with pytest.raises(DataError, match='no room for 21 items'):
    _changed(retriever, added=_codes(21)[20:])
  with pytest.raises(
    DataError, match='no room for row 20, only for 20 rows: `grown`'
  ):
    _changed(retriever, [3], _codes(21)[20:])
  assert retriever.search(params, batch, 4).valid.all()


def test_updates_lists_and_seeds_compile_nothing(params, batch):
  retriever = _retriever(4)
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
    # Lists are heeded, and items come in the order they are drawn.
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


@pytest.mark.parametrize('lists', [None, _lists()])
@pytest.mark.parametrize('sampler', [None, _sampler()])
def test_lowers_for_every_platform(params, batch, lists, sampler):
  """Products are full float32 ones for every model dtype and JAX default."""
  one = _retriever(4)
  model = Tiger(dataclasses.replace(CONFIG, dtype='bfloat16'), LEVEL_SIZES)

  @jax.jit
  def search(params, catalog, batch, lists, sampler):
    return TigerRetriever(model, catalog, 4).search(
      params, batch, 4, lists=lists, sampler=sampler
    )

  lower = export.export(search, platforms=('cpu', 'cuda', 'tpu'))
  with jax.default_matmul_precision('bfloat16'):
    exported = lower(params, one.catalog, batch, lists, sampler)
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
  assert_full_products(exported.mlir_module())
