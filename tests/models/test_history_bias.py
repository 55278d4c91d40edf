"""Tests of the history bias, with brute force over all items."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tries import FORMS, make_trie
from tiger_jax.config import ModelConfig
from tiger_jax.errors import UsageError
from tiger_jax.interfaces import Batch
from tiger_jax.models.cross_entropy import target_children
from tiger_jax.models.history_bias import HistoryBias, SeenItems
from tiger_jax.models.targets import preceding_items

LEVEL_SIZES = (3, 4, 5)
NUM_ITEMS = 30
IDS = np.random.default_rng(0).permutation(3 * 4 * 5)[:NUM_ITEMS]
CODES = np.stack(np.unravel_index(IDS, LEVEL_SIZES), 1).astype(np.int32)
# Items that were never bought, and are not in the trie.
ABSENT = np.arange(0, NUM_ITEMS, 6)
BOUGHT = np.setdiff1d(np.arange(NUM_ITEMS), ABSENT)


@pytest.fixture(name='trie', params=FORMS)
def _trie(request, monkeypatch):
  """Returns a trie of the bought items."""
  return make_trie(monkeypatch, request.param, CODES, LEVEL_SIZES, ABSENT)


def _histories():
  """Returns histories with padding and repeats, and four targets for each."""
  rng = np.random.default_rng(1)
  history = rng.choice(BOUGHT, (40, 8))
  # With few different items, all items of some prefixes are in the history.
  history[::2] = rng.choice(BOUGHT[:7], (20, 8))
  history[::2, 5] = history[::2, 2]
  history[np.arange(8)[None] >= rng.integers(1, 9, 40)[:, None]] = -1
  return history, rng.choice(BOUGHT, (40, 4)), rng.random((40, 4, 8)) < 0.7


def _slow_seen(prefix, code, items):
  """Returns `Candidates.seen` of a code after a prefix."""
  begin = (*prefix, code)
  have = {
    row for row in BOUGHT.tolist() if tuple(CODES[row][: len(begin)]) == begin
  }
  return bool(have & items) + bool(have <= items)


def test_seen_codes_equal_brute_force(trie):
  history, target, visible = _histories()
  visible &= history[:, None] >= 0
  items = jax.jit(SeenItems.of)(trie, CODES[history], visible)
  levels = jax.jit(target_children)(trie, jnp.asarray(CODES)[target], items)
  counts = np.zeros((3, 3), int)
  for level, (children, _, seen) in enumerate(jax.device_get(levels)):
    for row, column in np.ndindex(*target.shape):
      prefix = CODES[target[row, column]][:level].tolist()
      before = set(history[row][visible[row, column]].tolist())
      valid = np.flatnonzero(children.valid[row, column])
      codes = valid
      if children.codes is not None:
        codes = children.codes[row, column][valid]
      actual = seen[row, column][valid].tolist()
      assert actual == [_slow_seen(prefix, x, before) for x in codes.tolist()]
      counts[level] += np.bincount(actual, minlength=3)
  # No history contains all items of a first code, and a last code leads to one
  # item only.
  expected = [[True, True, False], [True, True, True], [True, False, True]]
  assert (counts > 5).tolist() == (counts > 0).tolist() == expected


def test_seen_is_unknown_without_a_history(trie):
  levels = target_children(trie, jnp.asarray(CODES)[BOUGHT][None])
  assert all(x.seen is None for x in levels)


def test_the_bias_depends_on_the_level_and_on_what_is_seen():
  table = jnp.array([[1, 2], [3, 4], [5, 6]], jnp.float32)
  kernel = jnp.array([[[10, 20]], [[30, 40]], [[50, 60]]], jnp.float32)
  bias = HistoryBias(3)
  params = {'params': {'table': table, 'kernel': kernel}}
  seen = jnp.array([[[0, 1, 2, 0]]], jnp.int8)
  # The decoder state is one number.
  for state, level, expected in (
    (0, 0, [0, 1, 2, 0]),
    (0, 1, [0, 3, 4, 0]),
    (1, 1, [0, 33, 44, 0]),
    (-2, 2, [0, -95, -114, 0]),
  ):
    x = jnp.full((1, 1, 1), state, jnp.float32)
    assert bias.apply(params, level, x, seen).tolist() == [[expected]]
  assert bias.apply(params, 1, x, None) == 0
  initial = bias.init(jax.random.key(0), 0, x, seen)
  assert all(not np.any(x) for x in jax.tree.leaves(initial))


@pytest.mark.parametrize(
  ('history', 'target', 'num_targets', 'expected'),
  [
    ([3, 1, -1], 7, 1, [[1, 1, 0]]),
    ([3, 1, 3], 7, 3, [[1, 0, 0], [1, 1, 0], [1, 1, 1]]),
    # A row with two histories.
    ([3, 1, 4, -1], [-1, 5, 6, -1], 4, [
      [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0],
    ]),
  ],
)  # fmt: skip
def test_preceding_items_are_worked_out_by_hand(
  history, target, num_targets, expected
):
  batch = Batch(np.array([history]), np.array([0]), np.array([target]))
  preceding = preceding_items(batch, num_targets)
  assert np.asarray(preceding).astype(int).tolist() == [expected]


def test_a_softmax_over_all_codes_is_refused():
  with pytest.raises(
    UsageError, match="set softmax to 'trie', or history_bias"
  ):
    ModelConfig(history_bias=True)
