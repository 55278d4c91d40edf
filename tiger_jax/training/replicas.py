"""Replicas: runs that differ in their seeds and are trained at once."""

from collections.abc import Callable, Iterator
from typing import Any

import jax


def seeds(seed: int, num_replicas: int) -> list[int]:
  """Returns the seed of every replica."""
  # jax.random.key would drop further bits.
  return [(seed + i) % 2**32 for i in range(num_replicas)]


def select(params: Any, num_replicas: int, index: int) -> Any:
  """Returns the parameters of one replica."""
  if num_replicas == 1:
    return params
  return jax.tree.map(lambda x: x[index], params)


def each(params: Any, num_replicas: int) -> Iterator[Any]:
  """Yields the parameters of each replica."""
  return (select(params, num_replicas, i) for i in range(num_replicas))


def over(
  fn: Callable[[list[float]], Any], values: list[dict[str, float]]
) -> dict[str, float]:
  """Applies a function to the values that each metric has for all replicas."""
  return {name: float(fn([x[name] for x in values])) for name in values[0]}
