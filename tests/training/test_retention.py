"""Which checkpoints are kept."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from tiger_jax.training.retention import kept


@pytest.mark.parametrize(
  ('reach', 'expected'),
  [
    (0, [30, 40, 50]),
    (20, [30, 40, 50]),
    (21, [20, 30, 40, 50]),
    (40, [10, 20, 30, 40, 50]),
    (41, [10, 20, 30, 40, 50]),
  ],
)
def test_which_checkpoints_are_kept(reach, expected):
  assert kept([10, 20, 30, 40, 50], reach) == expected


@pytest.mark.parametrize('steps', [[5], [5, 6], [5, 6, 7]])
def test_three_are_kept(steps):
  assert kept(steps, 0) == steps


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(0, 60))
def test_a_run_finds_one_that_is_old_enough(gaps, reach):
  """Otherwise all checkpoints are kept, and the run restarts from step 0."""
  step, saved, there = 0, [], []
  for gap in gaps:
    step += gap
    saved.append(step)
    there = kept([*there, step], reach)
    old = [x for x in saved if x <= step - reach]
    if old:
      assert max(x for x in there if x <= step - reach) == max(old)
    else:
      assert there == saved
    # No unneeded checkpoint is kept.
    assert len(there) <= max(3, 1 + sum(x > step - reach for x in saved))
