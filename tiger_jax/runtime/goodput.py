"""Measures the time that a run spends in each phase."""

from collections.abc import Iterator
import contextlib
import json
from pathlib import Path
import time

import jax

from tiger_jax.storage import files

# The event that JAX records when it compiles a program or loads it from the
# cache.
_COMPILATION = '/jax/core/compile/backend_compile_duration'


class Stopwatch:
  """Measures the time of each phase; every moment belongs to one phase.

  The phase is `other` unless `phase` sets a different one. Compilation counts
  as `compile` in every phase.
  """

  def __init__(self):
    """Starts the watch in the phase `other`."""
    self._phase = 'other'
    self._since = self._start = time.perf_counter()
    self._seconds = {'other': 0.0}
    self._is_open = True
    jax.monitoring.register_event_duration_secs_listener(self._listen)

  def close(self) -> None:
    """Stops the watch."""
    self._turn_to(self._phase)
    self._is_open = False
    jax.monitoring.unregister_event_duration_listener(self._listen)

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """Counts the time inside the block as `name`."""
    before = self._phase
    self._turn_to(name)
    try:
      yield
    finally:
      self._turn_to(before)

  def seconds(self) -> dict[str, float]:
    """Returns the seconds of every phase until now; `wall` is their sum."""
    self._turn_to(self._phase)
    return self._seconds | {'wall': self._since - self._start}

  def _turn_to(self, phase: str) -> None:
    if not self._is_open:
      return
    now = time.perf_counter()
    self._add(self._phase, now - self._since)
    self._since = now
    self._phase = phase

  def _add(self, phase: str, seconds: float) -> None:
    self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds

  def _listen(self, event: str, duration_secs: float, **unused: object) -> None:
    if event == _COMPILATION and self._phase != 'compile':
      self._add('compile', duration_secs)
      self._add(self._phase, -duration_secs)


def summary(seconds: dict[str, float]) -> str:
  """Returns a line with the share of each phase, the largest first."""
  wall = max(seconds['wall'], 1e-9)
  parts = sorted(
    ((value, name) for name, value in seconds.items() if name != 'wall'),
    reverse=True,
  )
  shares = ', '.join(f'{name} {value / wall:.1%}' for value, name in parts)
  return f'{wall:.1f} s: {shares}'


def record(
  path: Path, start: int, stop: int, seconds: dict[str, float]
) -> None:
  """Appends a line of JSON with the seconds of the steps `start` to `stop`.

  A failed write is ignored, so that it does not hide an earlier error.
  """
  line = {'from': start, 'to': stop, 'seconds': seconds}
  with contextlib.suppress(OSError), files.open_to_append(path) as file:
    file.write((json.dumps(line) + '\n').encode())
