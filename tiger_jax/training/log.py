"""Logs training steps, and detects values that are not finite."""

from typing import Any

import jax
import numpy as np

from tiger_jax.errors import NotFiniteError
from tiger_jax.runtime.goodput import Stopwatch
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.training.step import StepResults


class StepLog:
  """Collects the results of steps, and reads them when the log is flushed."""

  def __init__(
    self,
    writer: MetricsWriter,
    label: str,
    tensor_names: list[str],
    watch: Stopwatch,
  ):
    """Starts an empty log.

    Args:
      writer: Receives the mean metrics.
      label: The name of the stage.
      tensor_names: The names of the tensors in `StepResults.finite`.
      watch: The stopwatch of the stage, from which the speed is computed.
    """
    self._writer = writer
    self._label = label
    self._tensor_names = tensor_names
    self._watch = watch
    self._seconds = self._training_seconds()
    self._pending: list[tuple[int, StepResults, list[str]]] = []
    self._num_examples = 0

  def add(
    self,
    before: int,
    results: StepResults,
    digests: list[str],
    num_examples: int,
  ) -> int:
    """Adds the results of one jitted call.

    Args:
      before: The number of steps done before the call.
      results: The results, which the device may still be computing.
      digests: The digest of the batch of each step.
      num_examples: The number of examples in all batches of the call.

    Returns:
      The number of steps done after the call.
    """
    step = before + len(digests)
    self._pending.append((step, results, digests))
    self._num_examples += num_examples
    return step

  def wait(self) -> None:
    """Blocks until the results that were added last are computed."""
    if self._pending:
      jax.block_until_ready(self._pending[-1][1])

  def flush(self, more: dict[str, float]) -> dict[str, float]:
    """Writes the mean metrics since the last flush, together with `more`.

    Returns:
      The values written.

    Raises:
      NotFiniteError: A value is not finite.
    """
    if not self._pending:
      return {}
    steps, results, digests = zip(*self._pending, strict=True)
    self._pending = []
    results = jax.device_get(results)
    metrics = {
      name: np.concatenate([x.metrics[name] for x in results])
      for name in results[0].metrics
    }
    finite = np.concatenate([x.finite for x in results])
    self._check(metrics, finite, sum(digests, []), steps[-1])
    means = {name: float(values.mean()) for name, values in metrics.items()}
    seconds = self._training_seconds()
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
    # A row per step, and a column per tensor and metric. Replicas are merged.
    good = np.concatenate(
      [finite, np.stack([np.isfinite(x) for x in metrics.values()], -1)], -1
    )
    good = np.all(good.reshape(len(digests), -1, good.shape[-1]), axis=1)
    if good.all():
      return
    row = int(np.argmin(good.all(axis=1)))
    step = last - len(digests) + 1 + row
    name = [*self._tensor_names, *metrics][int(np.argmin(good[row]))]
    # The previous step computed a parameter that is not finite. Step 1
    # counts as the cause if the initial parameters are not finite.
    cause = max(1, step - name.startswith('parameter '))
    raise NotFiniteError(
      f'{self._label}: {name} is not finite at step {step}, batch '
      f'{digests[row]}',
      cause,
    )

  def _training_seconds(self) -> float:
    seconds: dict[str, Any] = self._watch.seconds()
    return seconds.get('step', 0.0) + seconds.get('data', 0.0)
