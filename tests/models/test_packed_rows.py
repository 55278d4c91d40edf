"""Tests that a history has the same results packed in a row and alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import one_pass
from tests.models.one_pass import LEVEL_SIZES, NUM_ITEMS
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.interfaces import Batch
from tiger_jax.models.targets import next_items, same_history
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.tiger_task import TigerTask

CONFIG = dataclasses.replace(
  one_pass.CONFIG,
  dropout=0.0,
  prefix_dropout=0.0,
  tied_heads=True,
  softmax='trie',
  recency_bias=True,
  prefix_embeddings=50,
  prefix_heads=True,
  history_bias=True,
)
MODEL = Tiger(CONFIG, LEVEL_SIZES)
# The lengths of the histories in each row.
ROWS = ((7,), (3, 2, 2), (4, 1), (1, 1, 5), (6,))
LENGTHS = sum(ROWS, ())
IDS = np.random.default_rng(0).permutation(np.prod(LEVEL_SIZES))[:NUM_ITEMS]
CODES = np.stack(np.unravel_index(IDS, LEVEL_SIZES), 1).astype(np.int32)
CATALOG = Catalog.from_codes(CODES, LEVEL_SIZES)
TASK = TigerTask(MODEL, jnp.asarray(CODES), lambda: 6.5, lambda: CATALOG)


def make_batches():
  """Returns the same histories in a padded and in a packed batch."""
  rng = np.random.default_rng(1)
  items = rng.integers(0, NUM_ITEMS, (len(LENGTHS), 8)).astype(np.int32)
  columns = np.arange(7)[None]
  alone = Batch(
    np.where(columns < np.array(LENGTHS)[:, None], items[:, :7], -1),
    np.full(len(LENGTHS), -1, np.int32),
    items[np.arange(len(LENGTHS)), LENGTHS],
  )
  history, target = np.full((2, len(ROWS), 7), -1, np.int32)
  number = 0
  for row, lengths in enumerate(ROWS):
    start = 0
    for length in lengths:
      history[row, start:][:length] = items[number, :length]
      start += length
      target[row, start - 1] = items[number, length]
      number += 1
  return alone, Batch(history, alone.user[: len(ROWS)], target)


ALONE, PACKED = make_batches()


@pytest.fixture(name='params', scope='module')
def _params():
  """Returns parameters with random biases for recency and the history."""
  params = TASK.init(jax.random.key(0))
  for name in ('recency_bias', 'history_bias'):
    params[name] = {
      key: 2 * jax.random.normal(jax.random.key(1), x.shape)
      for key, x in params[name].items()
    }
  return params


@jax.jit
def _every_target(params, batch):
  return MODEL.apply(
    {'params': params}, TASK.tables.codes, batch, method='every_target'
  )


def every_target(params, batch):
  """Returns the logits of the real targets, history by history."""
  is_target = np.asarray(next_items(batch)) >= 0
  return [np.asarray(x)[is_target] for x in _every_target(params, batch)]


@jax.jit
def value_and_grad(params, batch):
  def loss(params):
    value, metrics, _ = TASK.loss(params, TASK.tables, batch, jax.random.key(2))
    return value, metrics

  return jax.value_and_grad(loss, has_aux=True)(params)


def test_logits_equal_those_of_each_history_alone(params):
  packed = every_target(params, PACKED)
  alone = every_target(params, ALONE)
  for x, y in zip(packed, alone, strict=True):
    assert len(x) == sum(LENGTHS)
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_losses_and_gradients_equal_those_of_the_padded_batch(params):
  (packed, packed_metrics), packed_gradients = value_and_grad(params, PACKED)
  (alone, metrics), gradients = value_and_grad(params, ALONE)
  for name, value in metrics.items():
    np.testing.assert_allclose(packed_metrics[name], value, rtol=1e-5)
  # The loss is divided by the number of rows. The packed batch has fewer rows.
  factor = len(LENGTHS) / len(ROWS)
  np.testing.assert_allclose(packed, factor * alone, rtol=1e-5)
  for (path, x), y in zip(
    jax.tree.leaves_with_path(packed_gradients),
    jax.tree.leaves(gradients),
    strict=True,
  ):
    assert np.abs(y).max() > 1e-4, path
    np.testing.assert_allclose(x, factor * y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('row', [1, 2, 3])
def test_no_target_depends_on_another_history(params, row):
  """If one history changes, no logits of other histories in its row change."""
  before = _every_target(params, PACKED)
  starts = np.cumsum((0, *ROWS[row]))
  for start, stop in zip(starts[:-1], starts[1:], strict=True):
    history, target = PACKED.history.copy(), PACKED.target.copy()
    history[row, start:stop] = (history[row, start:stop] + 7) % NUM_ITEMS
    target[row, stop - 1] = (target[row, stop - 1] + 7) % NUM_ITEMS
    batch = PACKED._replace(history=history, target=target)
    change = np.max(
      [
        np.abs(x - y)[row].max(1)
        for x, y in zip(_every_target(params, batch), before, strict=True)
      ],
      axis=0,
    )
    is_changed = np.zeros(7, bool)
    is_changed[start:stop] = True
    is_real = PACKED.history[row] >= 0
    assert (change[is_changed] > 1e-3).all()
    assert change[~is_changed & is_real].max() < 1e-6


def test_next_items_never_cross_a_boundary():
  history = np.array([[3, 1, 2, 4, 5, -1], [6, 7, 8, 9, 1, 2]], np.int32)
  target = np.array([[-1, 9, 8, -1, 7, -1], [0, 0, -1, -1, -1, 0]], np.int32)
  batch = Batch(history, np.full(2, -1, np.int32), target)
  assert batch.is_packed and not ALONE.is_packed
  assert next_items(batch).tolist() == [
    [1, 9, 8, 5, 7, -1],
    [0, 0, 9, 1, 2, 0],
  ]
  numbers = [[0, 0, 1, 2, 2, 3], [0, 1, 2, 2, 2, 2]]
  expected = [[[a == b for b in row] for a in row] for row in numbers]
  assert np.asarray(same_history(batch)).tolist() == expected
