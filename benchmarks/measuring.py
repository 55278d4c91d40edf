"""Times several sides in turns, and lays out what was found.

A machine's speed changes from one second to the next, so what is compared is
run in turns, and the ratio is taken round by round before its median.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
import os
from pathlib import Path
import platform
import time
from typing import Any

import jax
import numpy as np


class Different(Exception):
  """What two sides find is not the same, so their times tell nothing."""


def in_turns(
  sides: Mapping[str, Callable[[int], Any]], num_rounds: int, num_warm: int = 0
) -> dict[str, np.ndarray]:
  """Runs every side once a round, in an order that turns round each time.

  Args:
    sides: By name; each is given the round, and returns when all is done.
    num_rounds: Rounds that are timed.
    num_warm: Rounds before, lest the first ones compile.

  Returns:
    By name, the seconds of every round.
  """
  for side in sides.values():
    for i in range(num_warm):
      side(i)
  seconds = {name: np.zeros(num_rounds) for name in sides}
  for i in range(num_rounds):
    for name in list(sides)[:: 1 if i % 2 else -1]:
      start = time.perf_counter()
      sides[name](i)
      seconds[name][i] = time.perf_counter() - start
  return seconds


def compare(
  what: str, ours: np.ndarray, theirs: np.ndarray, scores: np.ndarray
) -> None:
  """Raises `Different` where two searches differ by more than near-ties.

  Args:
    what: Names the other side.
    ours: What was found `[b, m, ...]`, best first.
    theirs: The same of the other side.
    scores: Of ours `[b, m]`. Those that are no more than 1e-4 apart may have
      swapped, as may the last with one that was not found.
  """
  near = np.abs(np.diff(np.asarray(scores), axis=1)) < 1e-4
  last = np.ones((len(near), 1), bool)
  tied = np.hstack([near, last]) | np.hstack([~last, near])
  ours, theirs = (
    np.asarray(x).reshape(*tied.shape, -1) for x in (ours, theirs)
  )
  same = (ours == theirs).all(2)
  if not (same | tied).all():
    raise Different(f'{what}: {(same | tied).mean():.2%} of the results agree')


def waiting(
  sides: Mapping[str, Callable[[], Any]],
) -> dict[str, Callable[[int], Any]]:
  """Makes of what starts programs of JAX sides that wait for their results."""
  return {
    name: lambda i, side=side: jax.block_until_ready(side())
    for name, side in sides.items()
  }


def percentiles(values: np.ndarray) -> list[float]:
  """Returns the 10th, the 50th and the 90th percentile."""
  return np.percentile(values, [10, 50, 90]).tolist()


def spread(values: np.ndarray, digits: int = 2, ends: int = 25) -> str:
  """Returns the median, and in brackets the percentiles at both ends."""
  low, middle, high = np.percentile(values, [ends, 50, 100 - ends])
  return f'{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})'


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """Lays a table out in Markdown, its first column text, the others numbers."""
  lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
  return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def environment(*packages: str) -> str:
  """Names the machine, and the versions that matter.

  Args:
    packages: Those of the peers.
  """
  device = jax.devices()[0]
  versions = ', '.join(
    f'{name} {metadata.version(name)}'
    for name in ('jax', 'jaxlib', 'numpy', *packages)
  )
  cores = len(os.sched_getaffinity(0))
  return (
    f'{_processor()}, {cores} cores; JAX on {jax.device_count()} x '
    f'{device.device_kind}; Python {platform.python_version()}, {versions}'
  )


def on_accelerator() -> bool:
  """Whether JAX runs on something else than a CPU."""
  return jax.default_backend() != 'cpu'


def use_cores(count: int) -> None:
  """Leaves this process so many cores; to be called before a backend starts.

  Args:
    count: More than there are leaves all.
  """
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def _processor() -> str:
  for line in Path('/proc/cpuinfo').read_text().splitlines():
    if line.startswith('model name'):
      return line.split(':')[1].strip()
  return platform.machine()
