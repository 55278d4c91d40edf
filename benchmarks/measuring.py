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


def in_turns(
  sides: Mapping[str, Callable[[int], Any]], num_rounds: int
) -> dict[str, np.ndarray]:
  """Runs every side once a round, in an order that turns round each time.

  Args:
    sides: By name; each is given the round, and returns when all is done.
    num_rounds: Rounds that are timed; what should be warm is warm before.

  Returns:
    By name, the seconds of every round.
  """
  seconds = {name: np.zeros(num_rounds) for name in sides}
  for i in range(num_rounds):
    for name in list(sides)[:: 1 if i % 2 else -1]:
      start = time.perf_counter()
      sides[name](i)
      seconds[name][i] = time.perf_counter() - start
  return seconds


def spread(values: np.ndarray, digits: int = 2) -> str:
  """Returns the median, and the quartiles in brackets."""
  low, middle, high = np.percentile(values, [25, 50, 75])
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
