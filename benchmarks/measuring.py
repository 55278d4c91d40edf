"""Measures the time of several functions in turn, and formats the results.

The speed of a machine changes from one second to the next. The functions that
a benchmark compares, its sides, therefore run alternately. The ratio of their
times is computed for every round, and the result is the median of these ratios.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
from importlib import metadata
import os
from pathlib import Path
import platform
import threading
import time
from typing import Any

import jax
import numpy as np


class Mismatch(Exception):
  """The results of two sides differ, so their times cannot be compared."""


def in_turns(
  sides: Mapping[str, Callable[[int], Any]], num_rounds: int, num_warm: int = 0
) -> dict[str, np.ndarray]:
  """Times every side once per round; each round reverses the order of sides.

  Args:
    sides: The functions to time, by name. They take the number of the round,
      and block until their result is computed.
    num_rounds: The number of timed rounds.
    num_warm: The number of warm-up calls of every side, which may compile.

  Returns:
    The seconds of every round, by name.
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
  """Raises `Mismatch` if two searches differ by more than near-ties.

  Args:
    what: The name of the peer.
    ours: Our results `[b, m, ...]`, best first.
    theirs: The results of the peer.
    scores: Our scores `[b, m]`. Results may swap ranks if their scores differ
      by less than 1e-4. The last result may differ, because a result that was
      not returned may have almost the same score.
  """
  near = np.abs(np.diff(np.asarray(scores), axis=1)) < 1e-4
  last = np.ones((len(near), 1), bool)
  tied = np.hstack([near, last]) | np.hstack([~last, near])
  ours, theirs = (
    np.asarray(x).reshape(*tied.shape, -1) for x in (ours, theirs)
  )
  same = (ours == theirs).all(2)
  if not (same | tied).all():
    wrong = 1 - (same | tied).mean()
    raise Mismatch(f'{what}: {wrong:.2%} of the results differ from ours')


def blocking(
  sides: Mapping[str, Callable[[], Any]],
) -> dict[str, Callable[[int], Any]]:
  """Wraps functions so that they block until their JAX results are computed."""
  return {
    name: lambda i, side=side: jax.block_until_ready(side())
    for name, side in sides.items()
  }


@contextlib.contextmanager
def watched(peaks: list[tuple[float, float]]) -> Iterator[None]:
  """Appends the peaks of anonymous and of mapped memory in a phase, in MiB."""
  samples = [_resident()]
  stop = threading.Event()

  def watch():
    while not stop.wait(0.01):
      samples.append(_resident())

  watcher = threading.Thread(target=watch)
  watcher.start()
  try:
    yield
  finally:
    stop.set()
    watcher.join()
    peaks.append((max(x for x, _ in samples), max(x for _, x in samples)))


def _resident() -> tuple[float, float]:
  lines = Path('/proc/self/status').read_text().splitlines()
  fields = dict(line.split(':') for line in lines)
  anonymous, mapped = (
    int(fields[name].split()[0]) / 1024 for name in ('RssAnon', 'RssFile')
  )
  return anonymous, mapped


def percentiles(values: np.ndarray) -> list[float]:
  """Returns the 10th, the 50th and the 90th percentile."""
  return np.percentile(values, [10, 50, 90]).tolist()


def spread(values: np.ndarray, digits: int = 2, ends: int = 25) -> str:
  """Formats the median, with a low and a high percentile in brackets."""
  low, middle, high = np.percentile(values, [ends, 50, 100 - ends])
  return f'{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})'


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """Returns a Markdown table; all columns except the first are numbers."""
  lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
  return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def environment(*packages: str) -> str:
  """Describes the machine and the versions of packages.

  Args:
    packages: The packages of the peers.
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
  """Returns whether JAX uses an accelerator."""
  return jax.default_backend() != 'cpu'


def use_cores(count: int) -> None:
  """Limits this process to `count` cores; call it before JAX starts."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def _processor() -> str:
  for line in Path('/proc/cpuinfo').read_text().splitlines():
    if line.startswith('model name'):
      return line.split(':')[1].strip()
  return platform.machine()
