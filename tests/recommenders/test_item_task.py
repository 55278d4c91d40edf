"""The losses of models that score items, compared with plain NumPy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.data.splits import Examples, Excerpts
from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import whole_sequence
from tiger_jax.models.baselines.sasrec import SasRec
from tiger_jax.recommenders import item_task
from tiger_jax.recommenders.item_task import ItemTask
from tiger_jax.runtime import sharding
from tiger_jax.training.look_up import LookUp

RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(3, 4, 5)).astype(np.float32)
ITEMS = RNG.normal(size=(9, 5)).astype(np.float32)
TARGETS = RNG.integers(0, 9, (3, 4)).astype(np.int32)
ARRAYS = tuple(map(jnp.asarray, (QUERIES, TARGETS, ITEMS)))
KEY = jax.random.key(2)


def make(loss, num_items=9):
  config = ModelConfig(
    name='sasrec', max_history=4, d_model=8, num_heads=1, head_dim=8,
    mlp_dim=8, num_encoder_layers=1, loss=loss, dropout=0.0,
  )  # fmt: skip
  return ItemTask(SasRec(config, num_items, 3), None)


# Two histories and a padding row, with their next items.
PADDED = Batch(
  np.array([[1, 2, 3, -1], [4, -1, -1, -1], [-1, -1, -1, -1]], np.int32),
  np.array([0, 1, -1], np.int32),
  np.array([5, 6, -1], np.int32),
)
NEXT_ITEMS = np.array([[2, 3, 5, -1], [6, -1, -1, -1], [-1] * 4], np.int32)


def test_cross_entropy_is_the_mean_over_targets():
  task = make('cross_entropy')
  params = task.init(jax.random.key(0))
  loss, _, _ = task.loss(params, task.tables, PADDED, KEY)
  bound = task.model.bind({'params': params})
  queries = np.asarray(bound.queries(None, PADDED, True))
  scores = queries @ np.asarray(bound.item_vectors(None)).T
  log_probs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
  targets = [(0, 0, 2), (0, 1, 3), (0, 2, 5), (1, 0, 6)]
  expected = -np.mean([log_probs[x] for x in targets])
  assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('name', ['sampled_softmax', 'bce'])
def test_sampled_losses_are_the_mean_over_targets(name):
  task = make(name)
  params = task.init(jax.random.key(0))
  loss, _, _ = task.loss(params, task.tables, PADDED, KEY)
  bound = task.model.bind({'params': params})
  _, rng = jax.random.split(KEY)
  queries = bound.queries(None, PADDED, True)
  args = [rng, queries, jnp.maximum(NEXT_ITEMS, 0), bound.item_vectors(None)]
  if name == 'bce':
    losses = item_task._binary(*args, whole_sequence(PADDED))
  else:
    losses = item_task._sampled_softmax(*args)
  expected = np.asarray(losses)[NEXT_ITEMS >= 0].mean()
  assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
  ('loss', 'expected'),
  [
    ('cross_entropy', np.log(50_000)),
    ('sampled_softmax', np.log(1 + 256)),
    ('bce', 2 * np.log(2)),
  ],
)
def test_equal_scores_have_the_loss_of_a_uniform_guess(loss, expected):
  """All items have equal scores. With this seed, no negative is the target."""
  task = make(loss, 50_000)
  shapes = jax.eval_shape(task.init, jax.random.key(0))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  value = jax.jit(task.loss)(zeros, task.tables, PADDED, KEY)[0]
  assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('size', [1, 5, 100])
def test_chunked_cross_entropy_equals_one_chunk(size):
  queries, targets, items = ARRAYS
  # With sizes 1 and 5, some chunks contain only padding.
  weight = jnp.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], jnp.float32)

  def at_once(queries, items):
    log_probs = jax.nn.log_softmax(jnp.einsum('bnd,id->bni', queries, items))
    log_probs = jnp.take_along_axis(log_probs, targets[:, :, None], 2)[:, :, 0]
    return -(log_probs * weight).sum()

  def in_chunks(queries, items):
    return item_task._cross_entropy(queries, targets, items, weight, size)

  results = [
    jax.value_and_grad(x, (0, 1))(queries, items) for x in (at_once, in_chunks)
  ]
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    *results,
  )


def test_every_device_scores_its_own_targets():
  mesh = sharding.make_mesh()
  queries = RNG.normal(size=(16, 6, 5)).astype(np.float32)
  targets = RNG.integers(0, 9, (16, 6)).astype(np.int32)
  weight = (RNG.random((16, 6)) < 0.5).astype(np.float32)
  args = [sharding.shard_batch(mesh, x) for x in (queries, targets, weight)]
  args.insert(2, sharding.replicate(mesh, ITEMS))
  compiled = jax.jit(item_task._cross_entropy).lower(*args).compile()
  log_probs = np.asarray(jax.nn.log_softmax(queries @ ITEMS.T))
  log_probs = np.take_along_axis(log_probs, targets[:, :, None], 2)[:, :, 0]
  expected = -(log_probs * weight).sum()
  assert float(compiled(*args)) == pytest.approx(expected, 1e-5)
  program = compiled.as_text()
  assert 'all-gather' not in program
  # Each of 8 devices has two of the 16 rows: 12 targets, scored with 9 items.
  assert re.search(r'f32\[(1,)?12,9\]', program)
  assert not re.search(r'f32\[(8,12|96),9\]', program)


def test_sampled_softmax_excludes_the_target_from_negatives():
  losses = item_task._sampled_softmax(KEY, *ARRAYS, 7)
  negatives = np.asarray(jax.random.randint(KEY, (3, 7), 0, 9, np.int32))
  assert any(
    t in row for row, ts in zip(negatives, TARGETS, strict=True) for t in ts
  )
  for row in range(3):
    for place in range(4):
      target = TARGETS[row, place]
      query = QUERIES[row, place]
      others = [query @ ITEMS[i] for i in negatives[row] if i != target]
      scores = np.array([query @ ITEMS[target], *others])
      expected = np.log(np.exp(scores).sum()) - scores[0]
      assert float(losses[row, place]) == pytest.approx(expected, rel=1e-4)


def test_sampled_softmax_over_all_items_equals_cross_entropy(monkeypatch):
  all_items = jnp.tile(jnp.arange(9, dtype=jnp.int32)[None], (3, 1))
  monkeypatch.setattr(item_task.jax.random, 'randint', lambda *args: all_items)
  losses = item_task._sampled_softmax(KEY, *ARRAYS, 9)
  scores = np.einsum('bnd,id->bni', QUERIES, ITEMS)
  log_probs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
  expected = -np.take_along_axis(log_probs, TARGETS[:, :, None], 2)[:, :, 0]
  np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)


def test_bce_ignores_negatives_in_the_sequence():
  sequence = RNG.integers(0, 9, (3, 4)).astype(np.int32)
  losses = item_task._binary(KEY, *ARRAYS, jnp.asarray(sequence))
  negatives = np.asarray(jax.random.randint(KEY, (3, 4), 0, 9, np.int32))
  num_ignored = 0
  for row in range(3):
    for place in range(4):
      query = QUERIES[row, place]
      expected = np.log1p(np.exp(-query @ ITEMS[TARGETS[row, place]]))
      negative = negatives[row, place]
      if negative in sequence[row]:
        num_ignored += 1
      else:
        expected += np.log1p(np.exp(query @ ITEMS[negative]))
      assert float(losses[row, place]) == pytest.approx(expected, rel=1e-4)
  assert 0 < num_ignored < 12


@pytest.mark.parametrize('loss', ['cross_entropy', 'sampled_softmax', 'bce'])
def test_loss_is_the_same_for_batches_looked_up_on_the_device(loss):
  task = make(loss)
  params = task.init(jax.random.key(0))
  events = np.array([1, 2, 3, 4, 5, 6], np.int32)
  rows = np.array([0, 0], np.int32)
  examples = Examples(rows, rows, np.array([3, 1], np.int32))
  batch = Batch(np.array([[1, 2, 3], [1, -1, -1]], np.int32), rows,
                np.array([4, 2], np.int32))  # fmt: skip
  look_up = LookUp(task, events)
  expected = task.loss(params, task.tables, batch, KEY)[0]
  loss = look_up.loss(params, look_up.tables, Excerpts(examples, 3), KEY)[0]
  assert float(loss) == pytest.approx(float(expected), rel=1e-6)
