"""What is told of the steps: means, speed, and the first that went wrong."""

from typing import Any

import jax
import numpy as np

from tiger_jax.errors import NotFiniteError
from tiger_jax.runtime.goodput import Stopwatch
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.training.step import Taken


class StepLog:
  """Collects the metrics of steps, and reads them long after the dispatch."""

  def __init__(
    self,
    writer: MetricsWriter,
    label: str,
    tensor_names: list[str],
    watch: Stopwatch,
  ):
    """Takes what `Taken.finite` is about, and the watch of the stage."""
    self._writer = writer
    self._label = label
    self._tensor_names = tensor_names
    self._watch = watch
    self._seconds = self._busy()
    self._pending: list[tuple[int, Taken, list[str]]] = []
    self._num_examples = 0

  def add(
    self, before: int, taken: Taken, digests: list[str], num_examples: int
  ) -> int:
    """Notes what is known of a call, and returns the steps done after it."""
    step = before + len(digests)
    self._pending.append((step, taken, digests))
    self._num_examples += num_examples
    return step

  def wait(self) -> None:
    """Blocks until the last call added is done."""
    if self._pending:
      jax.block_until_ready(self._pending[-1][1])

  def flush(self, more: dict[str, float]) -> dict[str, float]:
    """Writes the means since the last time with `more`, and returns them.

    Raises:
      NotFiniteError: A value is not finite.
    """
    if not self._pending:
      return {}
    steps, calls, digests = zip(*self._pending, strict=True)
    self._pending = []
    calls = jax.device_get(calls)
    metrics = {
      name: np.concatenate([call.metrics[name] for call in calls])
      for name in calls[0].metrics
    }
    finite = np.concatenate([call.finite for call in calls])
    self._check(metrics, finite, sum(digests, []), steps[-1])
    means = {name: float(values.mean()) for name, values in metrics.items()}
    seconds = self._busy()
    elapsed, self._seconds = seconds - self._seconds, seconds
    speed = self._num_examples / max(elapsed, 1e-9)
    self._num_examples = 0
    means |= more | {'examples_per_second': speed}
    self._writer.write(self._label, steps[-1], means)
    return means

  def _check(
    self,
    metrics: dict[str, np.ndarray],
    finite: np.ndarray,
    digests: list[str],
    last: int,
  ) -> None:
    # Tensors first, then metrics; one row per step, whatever the replicas.
    good = np.concatenate(
      [finite, np.stack([np.isfinite(x) for x in metrics.values()], -1)], -1
    )
    good = np.all(good.reshape(len(digests), -1, good.shape[-1]), axis=1)
    if good.all():
      return
    row = int(np.argmin(good.all(axis=1)))
    step = last - len(digests) + 1 + row
    what = [*self._tensor_names, *metrics][int(np.argmin(good[row]))]
    # No step comes before the initial parameters.
    cause = max(1, step - what.startswith('parameter '))
    raise NotFiniteError(
      f'{self._label}: {what} is not finite at step {step}, batch '
      f'{digests[row]}',
      cause,
    )

  def _busy(self) -> float:
    seconds: dict[str, Any] = self._watch.seconds()
    return seconds.get('step', 0.0) + seconds.get('data', 0.0)
