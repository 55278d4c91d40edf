"""The loss of TIGER, compared with plain NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.networks import NUM_ITEMS, make_batch, make_task
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.models.targets import next_items


@functools.cache
def _networks(causal_encoder):
  """Returns a task, parameters, and a function that scores all targets."""
  task = make_task(causal_encoder=causal_encoder, dropout=0.0)
  params = task.init(jax.random.key(0))

  @jax.jit
  def score(batch):
    bound = task.model.bind({'params': params})
    if causal_encoder:
      return bound.every_target(task.tables.codes, batch)
    return [x[:, None] for x in bound(task.tables.codes, batch)]

  return task, params, score


@pytest.mark.parametrize('causal_encoder', [False, True])
def test_the_loss_is_the_mean_over_targets_and_levels(causal_encoder):
  task, params, score = _networks(causal_encoder)
  # The batch has histories of several lengths and a padding row.
  batch = jax.tree.map(jnp.asarray, make_batch(0))
  targets = next_items(batch) if causal_encoder else batch.target[:, None]
  targets, levels = np.asarray(targets), []
  assert (targets < 0).any()
  codes = np.asarray(task.tables.codes)[targets]
  for level, logits in enumerate(score(batch)):
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    log_probs = np.take_along_axis(log_probs, codes[:, :, level, None], 2)
    levels.append(-log_probs[..., 0][targets >= 0].mean())
  loss = jax.jit(task.loss)
  value, metrics, _ = loss(params, task.tables, batch, jax.random.key(1))
  assert np.ptp(levels) > 0.1
  np.testing.assert_allclose(value, np.mean(levels), rtol=1e-5)
  np.testing.assert_allclose(metrics['loss'], np.mean(levels), rtol=1e-5)
  for level, expected in enumerate(levels):
    np.testing.assert_allclose(
      metrics[f'loss_level_{level}'], expected, rtol=1e-5
    )


@pytest.mark.parametrize('causal_encoder', [False, True])
def test_a_trie_softmax_normalizes_over_the_codes_of_items(causal_encoder):
  task, params, score = _networks(causal_encoder)
  batch = jax.tree.map(jnp.asarray, make_batch(0))
  codes = np.asarray(task.tables.codes)
  # The second level has 5 codes, but the items have only 3 of them.
  catalog = Catalog.from_codes(codes, task.model.level_sizes)
  targets = next_items(batch) if causal_encoder else batch.target[:, None]
  targets = np.asarray(targets)
  losses = []
  for logits, size in zip(score(batch), (5, 3, 2), strict=True):
    level = len(losses)
    log_probs = np.asarray(jax.nn.log_softmax(logits[..., :size]))
    column = codes[targets][:, :, level, None]
    log_probs = np.take_along_axis(log_probs, column, 2)[..., 0]
    losses.append(-log_probs[targets >= 0].mean())
  value, metrics, _ = jax.jit(task.loss)(
    params, task.tables._replace(trie=catalog), batch, jax.random.key(1)
  )
  np.testing.assert_allclose(value, np.mean(losses), rtol=1e-5)
  np.testing.assert_allclose(metrics['loss_level_1'], losses[1], rtol=1e-5)


def test_no_target_depends_on_later_items():
  _, _, score = _networks(causal_encoder=True)
  batch = make_batch(0)
  batch = batch._replace(history=np.maximum(batch.history, 0))
  before = score(batch)
  for i in (1, 2, 3):
    history = batch.history.copy()
    history[:, i] = (history[:, i] + 7) % NUM_ITEMS
    after = score(batch._replace(history=history))
    changes = [
      np.abs(x - y).max((0, 2)) for x, y in zip(after, before, strict=True)
    ]
    # The first code of item i depends only on items up to i - 1. The other
    # codes of item i also depend on its earlier codes, which changed.
    assert changes[0][:i].max() < 1e-6
    assert np.max([x[: i - 1] for x in changes], initial=0) < 1e-6
    assert np.min([x[i:] for x in changes]) > 1e-4
