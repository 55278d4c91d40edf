"""Saves, restores and removes the checkpoints of a run."""

from concurrent import futures
import contextlib
import errno
import json
from pathlib import Path
import re
import shutil
from typing import Any

from jax.sharding import Mesh

from tiger_jax.checkpoints import checkpoint_folder, compatibility, retention
from tiger_jax.checkpoints.checkpoint_folder import ALL, META, PARAMS
from tiger_jax.errors import CheckpointError, DamagedError
from tiger_jax.runtime import processes
from tiger_jax.runtime.printing import warn
from tiger_jax.runtime.sharding import fetch


class Checkpoints:
  """The latest checkpoints of a run (see `retention`) and the best one.

  Checkpoints are written in the background while training continues. This is a
  context manager, which waits for the last checkpoint when it exits.
  """

  def __init__(
    self,
    folder: Path,
    identity: dict[str, Any],
    best_metric: str | None = None,
    *,
    reach: int = 0,
    writes: bool = True,
  ):
    """Opens the folder, and creates it if this process writes.

    Args:
      folder: The folder, which holds one folder per step.
      identity: JSON that describes what is trained. A checkpoint with another
        identity is refused.
      best_metric: The metric that selects the best checkpoint, one of those
        given to `save`. If None, only the latest checkpoints are kept.
      reach: The number of steps that a rewind may go back from the latest
        checkpoint.
      writes: Whether this process writes; only one process of a run does.

    Raises:
      CheckpointError: The folder cannot be created or read.
    """
    self.folder = folder.absolute()
    self._identity = json.loads(json.dumps(identity))
    self._best_metric = best_metric
    self._reach = reach
    self._writes = writes
    self._writer = futures.ThreadPoolExecutor(1, 'checkpoint')
    self._pending: futures.Future[None] | None = None
    # The metric of every checked step; None if the step has no metric.
    self._metrics: dict[int, float | None] = {}
    self._damaged: set[int] = set()
    with self._explain_errors('it cannot be used'):
      if self.folder.is_symlink():
        raise OSError(errno.ELOOP, 'It is a link')
      # Refuses a path that Orbax cannot use, before the training.
      checkpoint_folder.check_path(self.folder)
      if writes:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
          if re.fullmatch(r'[0-9]+\.(partial|old)', path.name):
            # `rmtree` raises an error for a link.
            shutil.rmtree(path)

  def __enter__(self) -> 'Checkpoints':
    """Returns itself."""
    return self

  def __exit__(self, error_type: Any, *unused: Any) -> None:
    """Waits until everything is written."""
    try:
      self.wait()
    except CheckpointError as error:
      if error_type is None:
        raise
      # Only a warning, so that it does not hide the original error.
      warn(f'warning: {error}')
    finally:
      self._writer.shutdown()

  def wait(self) -> None:
    """Waits until everything is written.

    Raises:
      CheckpointError: A checkpoint cannot be saved.
    """
    pending, self._pending = self._pending, None
    if pending:
      pending.result()

  def steps(self) -> list[int]:
    """Returns the steps of all checkpoints, in order."""
    self.wait()
    return self._saved()

  def require_same_run(self) -> None:
    """Refuses the folder if its checkpoints belong to another run.

    Raises:
      CheckpointError: The message lists the differences.
    """
    for step in self.steps()[::-1]:
      with contextlib.suppress(DamagedError):
        contents = self._read(step, META)
        compatibility.require_same_run(
          self._path(step), contents, self._identity, {}
        )
        return

  def by_metric(self) -> list[int]:
    """Returns the steps with a value of the best metric, the best first.

    Damaged steps are excluded. The process that writes checks all files of a
    checkpoint. All other processes check only the file with the metrics.
    """
    self.wait()
    # If all steps are damaged, returns them, so that `restore` raises an error.
    return self._ranked() or sorted(self._damaged)

  def save(
    self,
    step: int,
    state: dict[str, Any],
    meta: dict[str, Any],
    metrics: dict[str, float] | None = None,
    *,
    last: bool = False,
  ) -> None:
    """Saves a checkpoint in the background, unless the step is already saved.

    The checkpoint is read back before it gets its final name.

    Args:
      step: The number of steps done.
      state: Pytrees of arrays by name. The arrays are copied before `save`
        returns.
      meta: Other JSON to store.
      metrics: The metrics that may select the best checkpoint.
      last: Whether this is the last checkpoint of a run, which is also restored
        and compared with `state`.

    Raises:
      NotFiniteError: An array is not finite. Nothing is written.
      CheckpointError: An earlier checkpoint could not be saved.
    """
    if step in self.steps():
      return
    checkpoint_folder.require_finite(state, step)
    state = fetch(state)
    if self._writes:
      contents = {
        'about': self._identity,
        'arrays': checkpoint_folder.describe(state),
        'metrics': metrics,
        'meta': meta,
      }
      self._pending = self._writer.submit(
        self._write, step, state, contents, last
      )

  def restore(
    self, step: int, like: dict[str, Any], part: tuple[str, ...] = ALL
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    """Checks and restores a checkpoint.

    Args:
      step: The step of the checkpoint.
      like: The expected state: pytrees of arrays, or of their shapes and types.
      part: The part to check: `ALL`, or `PARAMS` if `like` has only `params`.

    Returns:
      The state as host arrays, and the `meta` of the checkpoint with a key
      `metrics` added.

    Raises:
      DamagedError: The checkpoint is damaged.
      CheckpointError: The checkpoint belongs to another run.
    """
    contents = self._read(step, part)
    path, arrays = self._path(step), checkpoint_folder.describe(like)
    compatibility.require_same_run(path, contents, self._identity, arrays)
    with self._explain_errors(f'step {step} cannot be restored', step):
      format_version = contents.get('format', 0)
      state = checkpoint_folder.read_state(path, like, format_version)
    return state, contents['meta'] | {'metrics': contents['metrics']}

  def restore_first(
    self,
    steps: list[int],
    like: dict[str, Any],
    mesh: Mesh,
    part: tuple[str, ...] = ALL,
  ) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """Restores the first undamaged checkpoint, and warns about damaged ones.

    Every process with devices in the mesh must call this method. The main
    process selects the checkpoint, because only the main process removes
    checkpoints. A process with a mesh of its own selects for itself.

    Args:
      steps: The steps to try, in this order.
      like: The expected state, see `restore`.
      mesh: The devices.
      part: The part to check, see `restore`.

    Returns:
      The step, the state and the meta; None if there are no steps.

    Raises:
      CheckpointError: All checkpoints are damaged, or the first undamaged one
        belongs to another run.
    """
    restored = None
    if processes.is_main() or not processes.spans_processes(mesh):
      for step in steps:
        try:
          restored = step, *self.restore(step, like, part)
          break
        except DamagedError as error:
          if step == steps[-1]:
            raise
          self._note_damage(step, error)
    step = processes.from_main(restored[0] if restored else -1, mesh)
    if step >= 0 and not restored:
      restored = step, *self.restore(step, like, part)
    return restored

  def restore_params(
    self, steps: list[int], like: Any, mesh: Mesh
  ) -> tuple[int, Any, dict[str, Any]] | None:
    """Restores the parameters only, see `restore_first`.

    The files of the optimizer state may be damaged or missing.

    Args:
      steps: The steps to try, in this order.
      like: A pytree of the parameters, or of their shapes and types.
      mesh: The devices.
    """
    restored = self.restore_first(steps, {'params': like}, mesh, PARAMS)
    return restored and (restored[0], restored[1]['params'], restored[2])

  def drop(self, after: int, *, aside: bool) -> None:
    """Removes the checkpoints after a step, because training repeats the steps.

    Args:
      after: The last step to keep.
      aside: Whether to rename the checkpoints for inspection instead of
        deleting them.
    """
    for step in self.steps():
      if step > after and self._writes:
        # The repeated step gets new metrics.
        self._metrics.pop(step, None)
        self._damaged.discard(step)
        with self._explain_errors(f'step {step} cannot be set aside'):
          self._remove(step, aside=aside)

  def _write(
    self, step: int, state: Any, contents: dict[str, Any], last: bool
  ) -> None:
    with self._explain_errors(f'step {step} cannot be saved'):
      checkpoint_folder.write(
        self._path(step), step, state, contents, last=last
      )
      self._metrics[step] = (contents['metrics'] or {}).get(self._best_metric)
      best = self._ranked()[:1]
      # Never delete a damaged checkpoint: it may have been the best.
      good = [x for x in self._saved() if x not in self._damaged]
      latest = retention.latest(good, self._reach)
      for old in {*good} - {*latest, *best}:
        self._remove(old)

  def _remove(self, step: int, *, aside: bool = False) -> None:
    # Renames the folder first: a folder whose name is a step must be complete.
    moved = self.folder / f'{step}.{"damaged" if aside else "old"}'
    if moved.exists():
      shutil.rmtree(moved)
    self._path(step).rename(moved)
    if not aside:
      shutil.rmtree(moved)

  def _path(self, step: int) -> Path:
    return self.folder / str(step)

  def _saved(self) -> list[int]:
    """Returns the steps that have a folder, in order.

    Raises:
      CheckpointError: A folder is a link.
    """
    with self._explain_errors('it cannot be read'):
      paths = list(self.folder.iterdir()) if self.folder.exists() else []
    named = [x for x in paths if re.fullmatch(r'0|[1-9][0-9]*', x.name)]
    for path in named:
      if path.is_symlink():
        raise CheckpointError(
          f'{path} is a link: replace it with the folder that it points to'
        )
    return sorted(int(path.name) for path in named)

  def _ranked(self) -> list[int]:
    """Returns the steps with a value of the best metric, the best first.

    Checks the checkpoints that were not checked before.
    """
    saved = self._saved()
    # A process that may remove checkpoints checks all of their files.
    part = ALL if self._writes else META
    for step in sorted({*saved} - self._metrics.keys() - self._damaged):
      try:
        metrics = self._read(step, part)['metrics'] or {}
        self._metrics[step] = metrics.get(self._best_metric)
      except DamagedError as error:
        self._note_damage(step, error)
    return retention.ranked(
      {
        step: value
        for step in saved
        if (value := self._metrics.get(step)) is not None
      }
    )

  def _read(self, step: int, part: tuple[str, ...]) -> dict[str, Any]:
    """Checks a part of a checkpoint, and returns its `meta.json`."""
    with self._explain_errors(f'step {step} is damaged', step):
      return checkpoint_folder.read_contents(self._path(step), step, part)

  def _explain_errors(
    self, problem: str, damaged: int | None = None
  ) -> contextlib.AbstractContextManager[None]:
    path = None if damaged is None else self._path(damaged)
    return checkpoint_folder.explain_errors(self.folder, problem, path)

  def _note_damage(self, step: int, error: DamagedError) -> None:
    if step not in self._damaged:
      self._damaged.add(step)
      warn(f'WARNING: step {step} is skipped: {error}')
