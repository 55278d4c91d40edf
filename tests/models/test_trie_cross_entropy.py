"""Compares the cross-entropy of a trie softmax with that of dense masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tries import FORMS, make_trie
from tiger_jax.catalog.trie import take_codes
from tiger_jax.models.cross_entropy import cross_entropy, target_children

LEVEL_SIZES = (6, 5, 7)
NUM_ITEMS = 60
# An item without siblings at the last two levels.
ALONE = 13
# Items that are absent from training. Padding (-1) indexes the last item, which
# is the only item with its first code.
ABSENT = np.append(np.arange(0, NUM_ITEMS, 4), NUM_ITEMS - 1)


def _codes():
  rng = np.random.default_rng(0)
  ids = rng.permutation(4 * 5 * 7)[:NUM_ITEMS]
  codes = np.stack(np.unravel_index(ids, LEVEL_SIZES), 1).astype(np.int32)
  codes[ALONE], codes[-1] = (5, 3, 2), (4, 1, 6)
  return codes


CODES = _codes()


@pytest.fixture(name='trie', params=FORMS)
def _trie(request, monkeypatch):
  """Returns a trie of the valid IDs."""
  return make_trie(monkeypatch, request.param, CODES, LEVEL_SIZES, ABSENT)


def _slow_losses(logits, target, absent=ABSENT):
  """Returns the loss of each target at each level, `[rows, l]`."""
  ids = np.delete(CODES, absent, 0)
  losses = np.zeros(target.shape)
  for row, codes in enumerate(target):
    for level, x in enumerate(logits):
      siblings = ids[(ids[:, :level] == codes[:level]).all(1)]
      valid = np.zeros(x.shape[1], bool)
      valid[siblings[:, level]] = True
      assert valid[codes[level]]
      exp = np.where(valid, np.exp(x[row]), 0)
      losses[row, level] = -np.log(exp[codes[level]] / exp.sum())
  return losses


def _example():
  """Returns logits and 12 target items, some of them padding."""
  rng = np.random.default_rng(1)
  logits = [3 * rng.normal(size=(12, size)) for size in LEVEL_SIZES]
  items = rng.permutation(np.delete(np.arange(NUM_ITEMS), ABSENT))[:12]
  items[0] = ALONE
  items[[2, 5]] = -1
  return logits, items


@jax.jit
def _loss(logits, codes, weight, trie):
  """Returns the loss at each level, from the logits of all codes."""
  children = target_children(trie, codes)
  logits = [
    take_codes(x, y.children.codes)
    for x, y in zip(logits, children, strict=True)
  ]
  return cross_entropy(logits, codes, weight, children)


def _compute(logits, items, trie):
  """Computes the loss of items with one target per row, or with several."""
  if items.ndim == 1:
    items, logits = items[:, None], [x[:, None] for x in logits]
  weight = jnp.asarray(items >= 0, jnp.float32)
  logits = [jnp.asarray(x, jnp.float32) for x in logits]
  return _loss(logits, jnp.asarray(CODES)[items], weight, trie)


def test_the_loss_equals_a_loss_with_a_dense_mask(trie):
  logits, items = _example()
  real = items >= 0
  assert 0 < (~real).sum() < 5
  losses = _slow_losses([x[real] for x in logits], CODES[items[real]])
  np.testing.assert_allclose(
    _compute(logits, items, trie), losses.mean(0), rtol=1e-5
  )
  # If absent items were valid, the loss would be higher.
  every = _slow_losses([x[real] for x in logits], CODES[items[real]], [])
  assert every.mean() > losses.mean() + 0.05


def test_the_loss_does_not_depend_on_the_shape_of_the_targets(trie):
  """With a causal encoder, the targets have two axes."""
  logits, items = _example()
  expected = _compute(logits, items, trie)
  logits = [x.reshape(3, 4, -1) for x in logits]
  actual = _compute(logits, items.reshape(3, 4), trie)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_a_code_without_siblings_has_no_loss(trie):
  logits, items = _example()
  assert items[0] == ALONE
  items[1:] = -1
  loss = _compute(logits, items, trie)
  assert loss[0] > 0.1
  np.testing.assert_allclose(loss[1:], 0, atol=1e-6)


def test_padding_has_a_finite_loss_and_no_gradient(trie):
  logits, items = _example()
  # One code has all the probability.
  logits[1][3, 0] = 1e4

  @jax.jit
  @jax.value_and_grad
  def differentiate(logits):
    return _compute(logits, items, trie).sum()

  logits = [jnp.asarray(x, jnp.float32) for x in logits]
  loss, gradients = differentiate(logits)
  assert np.isfinite(loss)
  for x in gradients:
    assert np.isfinite(x).all()
    assert not np.any(x[items < 0])
    changes = np.abs(x[items >= 0]).max(1)
    assert (changes > 1e-3).sum() >= 5
    # The gradients of a softmax sum to zero.
    np.testing.assert_allclose(x.sum(1), 0, atol=1e-6)
  # A code gets no gradient if all items that have it are absent.
  absent = np.setdiff1d(CODES[:, 0], np.delete(CODES, ABSENT, 0)[:, 0])
  assert len(absent) and not np.any(np.asarray(gradients[0])[:, absent])
