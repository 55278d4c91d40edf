"""Confidence intervals of means over users."""

from jaxtyping import Float
import numpy as np


def intervals(
  values: Float[np.ndarray, 'n m'],
  seed: int,
  num_resamples: int = 1000,
  level: float = 0.95,
  *,
  max_cells: int = 2**22,
) -> Float[np.ndarray, '2 m']:
  """Returns the percentile bootstrap intervals of means over users.

  A resample draws n users with replacement. Users with equal rows of values are
  exchangeable. This function therefore draws only how often each distinct row
  occurs, from a multinomial distribution. The means have the same distribution
  as if every user were drawn.

  Args:
    values: The values of m metrics for n users.
    seed: The random seed.
    num_resamples: The number of resamples.
    level: The share of the resampled means that the interval covers.
    max_cells: The maximum number of counts in memory, which limits how many
      resamples are drawn at once.

  Returns:
    The lower and the upper end of each interval.
  """
  num_users = len(values)
  rows, counts = np.unique(values, axis=0, return_counts=True)
  rng = np.random.default_rng(seed)
  shares = counts / num_users
  means = []
  size = max(1, max_cells // len(rows))
  for start in range(0, num_resamples, size):
    draws = rng.multinomial(num_users, shares, min(size, num_resamples - start))
    means.append(draws @ rows / num_users)
  tail = (1 - level) / 2
  return np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
