"""Tests bootstrap intervals against exact distributions and standard errors."""

import numpy as np
import pytest

from tiger_jax.evaluation import bootstrap


def test_equal_values_have_no_spread():
  values = np.full((7, 2), [0.25, 0.0])
  np.testing.assert_allclose(
    bootstrap.intervals(values, seed=0), [[0.25, 0.0], [0.25, 0.0]]
  )


def test_the_interval_of_one_hit_among_ten_users_is_binomial():
  # The number of hits in a resample is binomial: 10 draws, each a hit with
  # probability 0.1. P(0 hits) is 0.349, P(at most 2 hits) is 0.930, and
  # P(at most 3 hits) is 0.987. The quantiles at 2.5% and 97.5% are therefore 0
  # and 3 hits.
  values = np.zeros((10, 1))
  values[4] = 1
  low, high = bootstrap.intervals(values, seed=0)
  assert (low[0], high[0]) == (0, pytest.approx(0.3))


def test_metrics_of_a_user_are_drawn_together():
  rng = np.random.default_rng(0)
  first = rng.random(50)
  # The second metric is a linear function of the first, so the same function
  # maps the first interval to the second.
  values = np.stack([first, 2 * first + 1], axis=1)
  low, high = bootstrap.intervals(values, seed=3)
  assert low[1] == pytest.approx(2 * low[0] + 1)
  assert high[1] == pytest.approx(2 * high[0] + 1)


@pytest.mark.parametrize('max_cells', [2**22, 3000])
def test_the_width_of_an_interval_agrees_with_the_standard_error(max_cells):
  rng = np.random.default_rng(1)
  for column in (rng.random(2000), rng.random(2000) < 0.1):
    values = column.astype(float)[:, None]
    low, high = bootstrap.intervals(
      values, seed=0, num_resamples=4000, max_cells=max_cells
    )
    error = values.std(ddof=1) / len(values) ** 0.5
    mean = values.mean()
    assert (high[0] - low[0]) == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert (high[0] + low[0]) / 2 == pytest.approx(mean, abs=0.2 * error)


def test_drawing_the_users_one_by_one_gives_the_same_interval():
  rng = np.random.default_rng(2)
  values = rng.choice([0.0, 0.3, 1.0], size=(40, 1), p=[0.7, 0.2, 0.1])
  rows = rng.integers(40, size=(20_000, 40))
  expected = np.quantile(values[rows, 0].mean(axis=1), [0.05, 0.95])
  result = bootstrap.intervals(values, 0, num_resamples=20_000, level=0.9)
  np.testing.assert_allclose(result[:, 0], expected, atol=0.01)


def test_equal_seeds_give_equal_intervals():
  values = np.random.default_rng(0).random((30, 1))
  one, again, other = (bootstrap.intervals(values, x) for x in (0, 0, 1))
  np.testing.assert_array_equal(one, again)
  assert (one != other).any()
