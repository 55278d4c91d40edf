"""Tests which checkpoints are kept, and how they are ranked."""

import numpy as np
import pytest

from tests.checkpoints.test_checkpoints import (
  METADATA,
  assert_equal,
  make_state,
  steps_of,
)
from tiger_jax.checkpoints import manifest, retention
from tiger_jax.checkpoints.checkpoints import Checkpoints


@pytest.mark.parametrize(
  ('steps', 'reach', 'expected'),
  [
    ([], 5, []),
    ([2, 4, 6, 8], 0, [4, 6, 8]),
    ([2, 4, 6, 8], 6, [2, 4, 6, 8]),
    ([2, 4, 6, 8, 10], 5, [4, 6, 8, 10]),
    ([2, 4], 5, [2, 4]),
  ],
)
def test_latest_returns_three_steps_and_one_that_is_old_enough(
  steps, reach, expected
):
  """An old enough step is at least `reach` steps older than the newest."""
  assert retention.latest(steps, reach) == expected


def test_the_latest_three_are_kept(tmp_path):
  with Checkpoints(tmp_path, METADATA) as checkpoints:
    for step in (2, 4, 6, 8, 10):
      checkpoints.save(step, make_state(step), {'step': step})
    assert checkpoints.steps()[-1] == 10
  assert sorted(path.name for path in tmp_path.iterdir()) == ['10', '6', '8']
  with Checkpoints(tmp_path, METADATA) as checkpoints:
    for step in (6, 8, 10):
      state, meta = checkpoints.restore(step, make_state())
      assert meta == {'step': step, 'metrics': None}
      assert_equal(state, make_state(step))


def test_the_best_checkpoint_is_kept(tmp_path):
  scores = {1: 0.1, 2: 0.7, 3: 0.3, 4: 0.6, 5: 0.5, 6: 0.2}
  with Checkpoints(tmp_path, METADATA, 'score') as checkpoints:
    for step, score in scores.items():
      values = {'other': -score, 'score': score}
      checkpoints.save(step, make_state(step), {}, values)
    assert checkpoints.by_metric() == [2, 4, 5, 6]
  assert steps_of(tmp_path) == [2, 4, 5, 6]
  with Checkpoints(tmp_path, METADATA, 'score') as checkpoints:
    state, _ = checkpoints.restore(2, make_state())
    assert_equal(state, make_state(2))
    checkpoints.save(7, make_state(7), {}, {'other': 0.0, 'score': 0.8})
    assert checkpoints.by_metric()[0] == 7
  assert steps_of(tmp_path) == [5, 6, 7]


def test_a_checkpoint_without_metrics_is_never_the_best(tmp_path):
  """A run saves such a checkpoint if it stops between two evaluations."""
  with Checkpoints(tmp_path, METADATA, 'score') as checkpoints:
    checkpoints.save(1, make_state(), {}, {'score': 0.3})
    for step in (2, 3, 4, 5):
      checkpoints.save(step, make_state(), {})
    assert checkpoints.steps()[-1] == 5
    assert checkpoints.by_metric() == [1]
  assert steps_of(tmp_path) == [1, 3, 4, 5]


def test_the_earlier_of_two_checkpoints_with_equal_metrics_is_better(tmp_path):
  with Checkpoints(tmp_path, METADATA, 'score') as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(step, make_state(), {}, {'score': 0.5})
    assert checkpoints.by_metric() == [1, 2, 3]


def test_a_nan_metric_is_the_worst(tmp_path):
  scores = {1: np.nan, 2: 0.1, 3: np.nan, 4: 0.2}
  with Checkpoints(tmp_path, METADATA, 'score') as checkpoints:
    for step, score in scores.items():
      checkpoints.save(step, make_state(), {}, {'score': score})
    assert checkpoints.by_metric() == [4, 2, 3]


def test_old_checkpoints_are_removed_after_the_new_one_exists(
  tmp_path, monkeypatch
):
  removed = []
  remove = Checkpoints._remove

  def look(self, step):
    names = self._saved()
    for name in names:
      manifest.check(tmp_path / str(name), {'step': name})
    removed.append((step, names))
    remove(self, step)

  monkeypatch.setattr(Checkpoints, '_remove', look)
  with Checkpoints(tmp_path, METADATA, 'score') as checkpoints:
    for step in range(1, 6):
      checkpoints.save(step, make_state(), {}, {'score': -float(step == 1)})
  assert removed == [(1, [1, 2, 3, 4])]


@pytest.mark.parametrize('aside', [False, True])
def test_later_steps_are_dropped(tmp_path, aside):
  with Checkpoints(tmp_path, METADATA) as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(step, make_state(), {})
    checkpoints.drop(1, aside=aside)
    assert checkpoints.steps() == [1]
    checkpoints.drop(1, aside=aside)
    checkpoints.save(2, make_state(5.0), {})
    # The repeated step is dropped again.
    checkpoints.drop(1, aside=aside)
  names = {path.name for path in tmp_path.iterdir()}
  assert names == ({'1', '2.damaged', '3.damaged'} if aside else {'1'})


@pytest.mark.parametrize('aside', [False, True])
def test_a_repeated_step_has_its_new_metric(tmp_path, aside):
  with Checkpoints(tmp_path, METADATA, 'score') as checkpoints:
    checkpoints.save(1, make_state(), {}, {'score': 0.9})
    assert checkpoints.by_metric() == [1]
    checkpoints.drop(0, aside=aside)
    assert checkpoints.by_metric() == []
    checkpoints.save(1, make_state(), {}, {'score': 0.1})
    for step in (2, 3, 4, 5):
      checkpoints.save(step, make_state(), {}, {'score': 0.5 - step / 100})
    assert checkpoints.by_metric() == [2, 3, 4, 5]
