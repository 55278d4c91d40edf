"""Lists of a network for which a narrow search returns wrong lists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.config.config_dict import from_json
from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.data.splits import split
from tiger_jax.experiments import ranking
from tiger_jax.experiments.ranking import Trained, rank
from tiger_jax.interfaces import Batch, Recommendations
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.registry import Material
from tiger_jax.retrieval import tiger as retriever_module
from tiger_jax.retrieval.items import ItemRetriever
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.retrieval.tiger import TigerRetriever

NUM_ITEMS, NUM_USERS, K = 60, 8, 5
SIZES = (32, 32)
CONFIG = from_json(
  {
    'model': {
      'max_history': 2, 'd_model': 8, 'num_heads': 1, 'head_dim': 8,
      'mlp_dim': 8, 'num_encoder_layers': 1, 'num_decoder_layers': 1,
      'dtype': 'float32',
    },
    'train': {'length_buckets': (2,)},
    'evaluation': {'batch_size': 8},
  }
)  # fmt: skip


@pytest.fixture(name='trained', scope='module')
def _trained():
  rng = np.random.default_rng(0)
  rows = rng.permutation(np.prod(SIZES))[:NUM_ITEMS]
  codes = np.stack(np.unravel_index(rows, SIZES), 1).astype(np.int32)
  names = ('title', 'price', 'brand', 'categories', 'description')
  dataset = Dataset(
    'shop',
    Items(
      tuple(map(str, range(NUM_ITEMS))),
      dict.fromkeys(names, ('',) * NUM_ITEMS),
    ),
    tuple(map(str, range(NUM_USERS))),
    rng.integers(0, NUM_ITEMS, 4 * NUM_USERS).astype(np.int32),
    4 * np.arange(NUM_USERS + 1),
  )
  model = Tiger(CONFIG.model, SIZES)
  batch = Batch(*np.full((3, 1, 1), -1, np.int32))
  batch = Batch(batch.history, batch.user[0], batch.target[0])
  params = model.init(jax.random.key(0), jnp.asarray(codes), batch)['params']
  retriever = TigerRetriever(
    model, jnp.asarray(codes), Catalog.from_codes(codes, SIZES), 16
  )
  return Trained(CONFIG, Material(dataset, None, None), retriever, params)


@pytest.fixture(name='examples', scope='module')
def _examples(trained):
  return split(trained.material.dataset, 'test')


@pytest.fixture(name='every_draw', scope='module')
def _every_draw(trained, examples):
  """The draws at temperature 2 of a search that drops nothing."""
  dataset = trained.material.dataset
  history = np.stack([dataset.history[i : i + 2] for i in examples.end - 2])
  user = np.arange(NUM_USERS, dtype=np.int32)
  beams = trained.retriever.search(
    trained.params,
    Batch(history, user, user),
    64,
    sampler=Sampler(user.astype(np.uint32), np.float32(2), np.int32(2)),
  )
  assert (np.asarray(beams.exact_k) == NUM_ITEMS).all()
  return np.asarray(beams.items)


def test_draws_are_those_of_a_search_that_drops_nothing(
  trained, examples, every_draw
):
  found = rank(trained, examples, K, temperature=2.0)
  np.testing.assert_array_equal(found.items, every_draw[:, :K])
  assert found.proven == 1
  assert found.user.tolist() == list(range(NUM_USERS))
  dataset = trained.material.dataset
  np.testing.assert_array_equal(found.target, dataset.history[examples.end])


def test_unproven_items_are_counted(trained, examples, every_draw, monkeypatch):
  monkeypatch.setattr(retriever_module, '_MOST_BEAMS', 16)
  found = rank(trained, examples, K, temperature=2.0)
  right = found.items == every_draw[:, :K]
  # The narrow search gets a third of the draw wrong, and proves none of it.
  assert right.mean() < 0.7
  assert 0.1 < found.proven < 0.7
  for row, num in zip(right, found.num_proven, strict=True):
    assert row[:num].all()


def test_excepted_items_of_a_user_stay(trained, examples):
  dataset = trained.material.dataset
  every = [*range(NUM_ITEMS)]
  whole = rank(trained, examples, NUM_ITEMS, new=True, but=every)
  assert (np.sort(whole.items) == every).all()
  found = rank(trained, examples, NUM_ITEMS, new=True, but=every[::2])
  assert 0 < (found.items < 0).sum() < 3 * NUM_USERS
  for user, (row, expected) in enumerate(
    zip(found.items.tolist(), whole.items.tolist(), strict=True)
  ):
    owned = {*dataset.history_of(user)[:-1].tolist()}
    left = [x for x in expected if x % 2 == 0 or x not in owned]
    assert row == left + [-1] * (NUM_ITEMS - len(left))


def test_searches_are_wide_and_of_few_requests():
  found = ranking.for_ranking(CONFIG).evaluation
  assert (found.num_beams, found.batch_size) == (512, 8)
  wide = from_json({'evaluation': {'num_beams': 600, 'batch_size': 256}})
  found = ranking.for_ranking(wide).evaluation
  assert (found.num_beams, found.batch_size) == (600, 32)


class Scores(ItemRetriever):
  """Recommends item 7 and no other."""

  def __init__(self, approximate):
    self.approximate = approximate

  def recommend(self, params, batch, k, lists=None):
    items = jnp.full((len(batch.user), k), -1).at[:, 0].set(7)
    return Recommendations(items, 1.0 * items, items >= 0)


@pytest.mark.parametrize(('approximate', 'proven'), [(False, 1), (True, 0)])
def test_a_model_that_scores_every_item_needs_no_search(
  trained, examples, approximate, proven
):
  scores = trained._replace(retriever=Scores(approximate))
  found = rank(scores, examples, 3)
  assert found.items.tolist() == [[7, -1, -1]] * NUM_USERS
  assert found.proven == proven
