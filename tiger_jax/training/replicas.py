"""Replicas: copies of a model with different seeds, trained together."""

from collections.abc import Callable, Iterator
from typing import Any

import jax


def seeds(seed: int, num_replicas: int) -> list[int]:
  """Returns the seed of every replica."""
  # `jax.random.key` uses only the lowest 32 bits.
  return [(seed + i) % 2**32 for i in range(num_replicas)]


def select(params: Any, num_replicas: int, index: int) -> Any:
  """Returns the parameters of one replica."""
  if num_replicas == 1:
    return params
  return jax.tree.map(lambda x: x[index], params)


def split(params: Any, num_replicas: int) -> Iterator[Any]:
  """Yields the parameters of each replica."""
  return (select(params, num_replicas, i) for i in range(num_replicas))


def aggregate(
  fn: Callable[[list[float]], Any], metrics: list[dict[str, float]]
) -> dict[str, float]:
  """Aggregates every metric over the replicas.

  Args:
    fn: Maps the values of all replicas to one value, for example `np.mean`.
    metrics: The metrics of each replica.
  """
  return {name: float(fn([x[name] for x in metrics])) for name in metrics[0]}
