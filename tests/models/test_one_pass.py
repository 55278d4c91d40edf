"""Tests that one forward pass over a history trains on all its prefixes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.one_pass import CONFIG, LEVEL_SIZES, NUM_ITEMS
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.interfaces import Batch
from tiger_jax.models.targets import next_items
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.tiger_task import TigerTask

_PLACES = np.random.default_rng(0).permutation(np.prod(LEVEL_SIZES))[:NUM_ITEMS]
IDS = np.stack(np.unravel_index(_PLACES, LEVEL_SIZES), 1).astype(np.int32)


def make_batch(num_rows=5, width=7):
  rng = np.random.default_rng(1)
  history = rng.integers(0, NUM_ITEMS, (num_rows, width)).astype(np.int32)
  lengths = np.concatenate([[1, width], rng.integers(1, width, num_rows - 2)])
  history[np.arange(width)[None] >= lengths[:, None]] = -1
  target = rng.integers(0, NUM_ITEMS, num_rows).astype(np.int32)
  return Batch(history, np.arange(num_rows, dtype=np.int32), target), lengths


@functools.cache
def make(**changes):
  """Returns a model and its parameters."""
  model = Tiger(dataclasses.replace(CONFIG, **changes), LEVEL_SIZES)
  return model, TigerTask(model, IDS).init(jax.random.key(0))


@functools.partial(jax.jit, static_argnums=(0, 1))
def apply(model, method, params, batch):
  codes = jnp.asarray(IDS)
  return model.apply({'params': params}, codes, batch, method=method)


def logits_of_prefix(model, params, batch, t):
  """Returns the logits of the item after the first t + 1 events.

  Prefixes of 1, 4 and 7 events have no padding. The other prefixes are padded
  to the next of these widths, so that three programs are compiled.
  """
  width = next(width for width in (1, 4, 7) if width > t)
  history = np.where(np.arange(width) <= t, batch.history[:, :width], -1)
  target = np.asarray(next_items(batch))[:, t]
  prefix = Batch(history, batch.user, target)
  return jax.device_get(apply(model, '__call__', params, prefix))


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'num_user_tokens': 3},
    {
      'num_user_tokens': 3,
      'recency_bias': True,
      'prefix_embeddings': 50,
      'prefix_heads': True,
    },
  ],
)
def test_one_pass_equals_one_pass_per_prefix(changes):
  model, params = make(**changes)
  batch, lengths = make_batch()
  if 'recency_bias' in params:
    table = params['recency_bias']['table']
    noise = 2 * jax.random.normal(jax.random.key(1), table.shape)
    params = params | {'recency_bias': {'table': noise}}
  all_logits = jax.device_get(apply(model, 'every_target', params, batch))
  for t in range(7):
    rows = np.flatnonzero(lengths > t)
    prefix_logits = logits_of_prefix(model, params, batch, t)
    for level, logits in enumerate(prefix_logits):
      np.testing.assert_allclose(
        all_logits[level][rows, t], logits[rows], rtol=1e-4, atol=1e-5
      )


def test_a_bidirectional_encoder_depends_on_later_items():
  """Without a causal encoder, one pass differs from one pass per prefix."""
  model, params = make(causal_encoder=False)
  batch, _ = make_batch()
  all_logits = apply(model, 'every_target', params, batch)
  first = logits_of_prefix(model, params, batch, 0)
  difference = all_logits[0][1, 0] - first[0][1]
  assert np.abs(difference).max() > 1e-2


def test_next_items_are_the_shifted_history_and_the_target():
  history = np.array([[3, 1, 2], [4, -1, -1], [5, 6, -1], [-1, -1, -1]])
  batch = Batch(history, np.zeros(4, np.int32), np.array([9, 8, -1, -1]))
  assert next_items(batch).tolist() == [
    [1, 2, 9],
    [8, -1, -1],
    [6, -1, -1],
    [-1, -1, -1],
  ]


def slow_bias(table, level, target, history):
  """Returns the history bias of every code of a level, in NumPy."""
  bias = np.zeros(LEVEL_SIZES[level])
  for code in range(len(bias)):
    begin = [*target[:level], code]
    items = np.flatnonzero((IDS[:, : level + 1] == begin).all(1))
    is_seen = np.isin(items, history)
    if is_seen.any():
      bias[code] = table[level, int(is_seen.all())]
  return bias


@pytest.mark.parametrize(
  ('softmax', 'history_bias'),
  [('all_codes', False), ('trie', False), ('trie', True)],
)
def test_the_loss_is_the_mean_over_all_prefixes(softmax, history_bias):
  config = dataclasses.replace(
    CONFIG, dropout=0.0, softmax=softmax, history_bias=history_bias
  )
  model, params = make()
  table = np.array([[1, 4], [-2, -1], [3, -3]]) * history_bias
  batch, lengths = make_batch()
  trie = None
  if softmax == 'trie':
    trie = Catalog.from_codes(IDS, LEVEL_SIZES)

  def loss_of(*arguments):
    task = TigerTask(model.clone(config=config), IDS, *arguments)
    bias = {
      'table': jnp.asarray(table, jnp.float32),
      'kernel': jnp.zeros((3, CONFIG.d_model, 2)),
    }
    loss = jax.jit(task.loss)
    changed = {**params, 'history_bias': bias}
    return loss(changed, task.tables, batch, jax.random.key(1))[:2]

  loss, _ = loss_of(lambda: None, lambda: trie)
  targets = np.asarray(next_items(batch))
  losses = []
  for t in range(7):
    prefix_logits = logits_of_prefix(model, params, batch, t)
    for row in np.flatnonzero(lengths > t):
      target = IDS[targets[row, t]]
      for level, logits in enumerate(prefix_logits):
        x = np.asarray(logits[row], np.float64)
        x = x + slow_bias(table, level, target, batch.history[row, : t + 1])
        valid = np.full(len(x), trie is None)
        valid[IDS[(IDS[:, :level] == target[:level]).all(1), level]] = True
        losses.append(np.log(np.exp(x)[valid].sum()) - x[target[level]])
  np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)

  # With `mean_targets`, the weight of a target does not depend on the number of
  # targets in its batch.
  loss, metrics = loss_of(lambda: 6.5, lambda: trie)
  per_code = np.sum(losses) / len(LEVEL_SIZES)
  np.testing.assert_allclose(loss, per_code / (5 * 6.5), rtol=1e-5)
  np.testing.assert_allclose(metrics['loss'], np.mean(losses), rtol=1e-5)
