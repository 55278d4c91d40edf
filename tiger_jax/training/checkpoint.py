"""Checkpoints: arrays and JSON, written by Orbax. Data, never code."""

from collections.abc import Iterator
import contextlib
import hashlib
import json
import logging
from pathlib import Path
import sys
from typing import Any
import warnings

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from tiger_jax.errors import CheckpointError, NumbersError


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

    Raises:
      CheckpointError: What is there cannot be read.
    """
    policies: list[Any] = [preservation_policy.LatestN(1)]
    options: dict[str, Any] = {}
    if best_metric:

      def value(metrics: dict[str, float]) -> float:
        return metrics[best_metric]

      policies.append(
        preservation_policy.BestN(
          get_metric_fn=value, n=1, keep_checkpoints_without_metrics=False
        )
      )
      options = {'best_fn': value, 'best_mode': 'max'}
    self.folder = folder.absolute()
    preserved = preservation_policy.AnyPreservationPolicy(policies)
    with self._explained('they cannot be read'):
      self._manager = ocp.CheckpointManager(
        self.folder,
        options=ocp.CheckpointManagerOptions(
          preservation_policy=preserved, **options
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
    with self._explained('the best cannot be told'):
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

    Raises:
      NumbersError: An array is not finite; nothing is written.
    """
    if step in self._manager.all_steps():
      return
    for name, value in _named_arrays(state):
      if not np.isfinite(value).all():
        raise NumbersError(
          f'{name} is not finite after step {step}: lower the learning rate '
          'in the config, and training starts again'
        )
    saved = {'meta': meta, 'sha256': _manifest(state, meta)}
    with self._explained(f'step {step} cannot be saved'):
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(saved)
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
    with self._explained(f'step {step} cannot be restored'):
      restored = self._manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore()
        ),
      )
      state, meta = restored['state'], restored['meta']['meta']
      # Orbax reads most damaged arrays without noticing.
      if restored['meta']['sha256'] != _manifest(state, meta):
        raise ValueError('it is not what was saved')
    return state, meta

  @contextlib.contextmanager
  def _explained(self, problem: str) -> Iterator[None]:
    """Turns any error of Orbax into one that says what to do."""
    try:
      yield
    # Orbax raises whatever the file system or the format library did.
    except Exception as error:
      _silence_stray_reads()
      reason = str(error).split('\n')[0]
      raise CheckpointError(
        f'{self.folder}: {problem} ({reason}); make room if the disk is full, '
        'or remove the folder of a damaged step to go on from an earlier one'
      ) from error


def _silence_stray_reads() -> None:
  """Keeps what a failed restore was still reading from complaining later.

  Orbax closes its event loop on the first error; every read that ends after
  that raises where nobody can catch it, and Python prints each.
  """
  before = sys.unraisablehook
  signs = ('Event loop is closed', '_read_array', 'reading array index')

  def hook(stray: Any) -> None:
    text = str(stray.exc_value)
    if not any(sign in text for sign in signs):
      before(stray)

  sys.unraisablehook = hook
  warnings.filterwarnings('ignore', 'coroutine .* was never awaited')
  logging.getLogger('asyncio').setLevel(logging.CRITICAL)


def _named_arrays(state: Any) -> list[tuple[str, np.ndarray]]:
  return [
    (jax.tree_util.keystr(path, simple=True, separator='/'), np.asarray(leaf))
    for path, leaf in jax.tree.leaves_with_path(jax.device_get(state))
  ]


def _manifest(state: Any, meta: dict[str, Any]) -> dict[str, str]:
  """Returns the sha256 of every array, and of the JSON beside them."""
  contents = {
    name: f'{value.dtype} {value.shape} '.encode() + value.tobytes()
    for name, value in _named_arrays(state)
  }
  contents['(meta)'] = json.dumps(meta, sort_keys=True).encode()
  return {
    name: hashlib.sha256(content).hexdigest()
    for name, content in contents.items()
  }
