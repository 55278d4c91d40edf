"""Checkpoints: arrays and JSON, written by Orbax. Data, never code."""

from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from tiger_jax.errors import CheckpointError


class Checkpoints:
  """The checkpoints of one run: the latest, and the best by a metric.

  A checkpoint is written aside and renamed when whole, in the background while
  training goes on. Use as a context manager, so that the last one is waited
  for.
  """

  def __init__(self, folder: Path, best_metric: str | None = None):
    """Opens the folder, which need not exist.

    Args:
      folder: Holds one folder per step.
      best_metric: Which of the metrics given to `save` picks the best; None
        keeps the latest only.
    """
    policies: list[Any] = [preservation_policy.LatestN(1)]
    options: dict[str, Any] = {}
    if best_metric:

      def value(metrics: dict[str, float]) -> float:
        return metrics[best_metric]

      policies.append(
        preservation_policy.BestN(get_metric_fn=value, reverse=False, n=1)
      )
      options = {'best_fn': value, 'best_mode': 'max'}
    self.folder = folder.absolute()
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
        **options,
      ),
      item_names=('state', 'meta'),
    )

  def __enter__(self) -> 'Checkpoints':
    """Returns itself."""
    return self

  def __exit__(self, *unused: Any) -> None:
    """Waits until everything is written."""
    self._manager.close()

  def latest_step(self) -> int | None:
    """Returns the last step saved, None before the first."""
    return self._manager.latest_step()

  def best_step(self) -> int | None:
    """Returns the step with the best metric, None before the first."""
    return self._manager.best_step()

  def save(
    self,
    step: int,
    state: Any,
    meta: dict[str, Any],
    metrics: dict[str, float] | None = None,
  ) -> None:
    """Saves in the background; a step already saved is left alone.

    Args:
      step: Steps done.
      state: A pytree of arrays.
      meta: JSON beside it.
      metrics: What the best is picked by.
    """
    if step in self._manager.all_steps():
      return
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
      ),
      metrics=metrics,
    )

  def restore(
    self, step: int, mesh: Mesh, state: Any
  ) -> tuple[Any, dict[str, Any]]:
    """Reads a checkpoint back.

    Args:
      step: Which.
      mesh: The devices; every array is restored whole on each of them,
        whatever devices it was saved from.
      state: A pytree of arrays, or of their shapes and types, like the one
        saved.

    Returns:
      The state and the meta saved with it.

    Raises:
      CheckpointError: It cannot be read, or does not fit `state`.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), state
    )
    try:
      restored = self._manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore()
        ),
      )
    # Orbax raises whatever the file system or the format library did.
    except Exception as error:
      reason = str(error).split('\n')[0]
      raise CheckpointError(
        f'{self.folder}: step {step} cannot be restored ({reason}); remove '
        'that step to go on from an earlier one, or the folder to start again'
      ) from error
    return restored['state'], restored['meta']
