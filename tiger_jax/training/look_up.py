"""Reads training batches from histories that are stored on the device."""

from typing import Any

from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.data.packing import PackedExcerpts
from tiger_jax.data.splits import Excerpts
from tiger_jax.training.step import Params, Task, UpdatingTask


class LookUp:
  """A task that reads the item rows of `Excerpts` for an inner task.

  Attributes:
    tables: The tables of the inner task, and the item rows of all histories.
  """

  def __init__(self, task: Task, events: Int[np.ndarray, ' n']):
    """Wraps a task; `events` holds the item rows of all histories."""
    self._task = task
    self.tables = (task.tables, events)
    if isinstance(task, UpdatingTask):
      self.after_update = lambda params, tables, *args: task.after_update(
        params, tables[0], *args
      )

  def init(self, rng: Array) -> Params:
    """Returns the initial parameters of the inner task."""
    return self._task.init(rng)

  def loss(
    self,
    params: Params,
    tables: Any,
    batch: Excerpts | PackedExcerpts,
    rng: Array,
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], Any]:
    """Returns the loss of the inner task, see `Task`."""
    tables, events = tables
    return self._task.loss(params, tables, batch.gather(events), rng)
