"""The checkpoints of a run: which there are, and which are kept."""

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
  """The latest checkpoints of one run (see `retention`) and the best one.

  They are written in the background while training goes on. Use as a context
  manager, so that the last one is waited for.
  """

  def __init__(
    self,
    folder: Path,
    about: dict[str, Any],
    best_metric: str | None = None,
    *,
    reach: int = 0,
    writes: bool = True,
  ):
    """Opens the folder, which need not exist.

    Args:
      folder: Holds one folder per step.
      about: JSON that tells what is trained. A checkpoint of something else
        is refused.
      best_metric: Which of the metrics given to `save` picks the best; None
        keeps the latest only.
      reach: How many steps a rewind may go back from the latest checkpoint.
      writes: Whether this process writes; in a run of several, one does.

    Raises:
      CheckpointError: The folder cannot be made or read.
    """
    self.folder = folder.absolute()
    self._about = json.loads(json.dumps(about))
    self._best_metric = best_metric
    self._reach = reach
    self._writes = writes
    self._writer = futures.ThreadPoolExecutor(1, 'checkpoint')
    self._pending: futures.Future[None] | None = None
    # The metric of every verified step; None if it has none.
    self._metrics: dict[int, float | None] = {}
    self._damaged: set[int] = set()
    with self._explained('it cannot be used'):
      if self.folder.is_symlink():
        raise OSError(errno.ELOOP, 'It is a link')
      # Refuses, before training, a path that Orbax cannot use.
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

  def __exit__(self, kind: Any, *unused: Any) -> None:
    """Waits until everything is written."""
    try:
      self.wait()
    except CheckpointError as error:
      if kind is None:
        raise
      # Only a warning, so that it does not hide the original error.
      warn(f'warning: {error}')
    finally:
      self._writer.shutdown()

  def wait(self) -> None:
    """Waits until everything is written.

    Raises:
      CheckpointError: It could not be.
    """
    pending, self._pending = self._pending, None
    if pending:
      pending.result()

  def steps(self) -> list[int]:
    """Returns the steps saved, in order."""
    self.wait()
    return self._saved()

  def refuse_others(self) -> None:
    """Refuses what is there if it is of something else.

    Raises:
      CheckpointError: It is; the message tells what differs.
    """
    for step in self.steps()[::-1]:
      with contextlib.suppress(DamagedError):
        contents = self._read(step, META)
        compatibility.refuse_other(self._path(step), contents, self._about, {})
        return

  def by_metric(self) -> list[int]:
    """Returns the steps that have a metric, the best first.

    A damaged step is left out. A process that does not write checks only the
    files with the metrics.
    """
    self.wait()
    # If all are damaged, they are returned, so that `restore` raises the error.
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
    """Saves in the background; a step already saved is left alone.

    The checkpoint is read back before it counts as saved.

    Args:
      step: Steps done.
      state: Pytrees of arrays by name, which may be changed after this
        returns. `params` can be read without the others.
      meta: JSON beside it.
      metrics: What the best is picked by.
      last: Whether it is the last checkpoint of a run, which is also restored
        and compared with `state`.

    Raises:
      NotFiniteError: An array is not finite; nothing is written.
      CheckpointError: An earlier one could not be saved.
    """
    if step in self.steps():
      return
    checkpoint_folder.require_finite(state, step)
    state = fetch(state)
    if self._writes:
      contents = {
        'about': self._about,
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
    """Reads a checkpoint back.

    Args:
      step: Which.
      like: Pytrees of arrays, or of their shapes and types, as was saved.
      part: What is checked: `ALL`, or `PARAMS` if `like` holds `params` alone.

    Returns:
      The state, in host memory, and the meta saved with it, the metrics added.

    Raises:
      DamagedError: It is not what was written.
      CheckpointError: It is of something else.
    """
    contents = self._read(step, part)
    arrays = checkpoint_folder.describe(like)
    compatibility.refuse_other(self._path(step), contents, self._about, arrays)
    with self._explained(f'step {step} cannot be restored', step):
      number = contents.get('format', 0)
      state = checkpoint_folder.read_state(self._path(step), like, number)
    return state, contents['meta'] | {'metrics': contents['metrics']}

  def restore_first(
    self,
    steps: list[int],
    like: dict[str, Any],
    mesh: Mesh,
    part: tuple[str, ...] = ALL,
  ) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """Reads the first checkpoint that is not damaged, and warns of others.

    All processes whose devices are in the mesh call it; the main one chooses,
    for it alone writes.

    Args:
      steps: Which to try, in this order.
      like: The expected state, see `restore`.
      mesh: The devices.
      part: As `restore` takes it.

    Returns:
      The step, the state and the meta; None if there are no steps.

    Raises:
      CheckpointError: All are damaged, or the one found is of something else.
    """
    found = None
    if processes.is_main():
      for step in steps:
        try:
          found = step, *self.restore(step, like, part)
          break
        except DamagedError as error:
          if step == steps[-1]:
            raise
          self._note_damage(step, error)
    step = processes.from_main(found[0] if found else -1, mesh)
    if step >= 0 and not found:
      found = step, *self.restore(step, like, part)
    return found

  def restore_params(
    self, steps: list[int], like: Any, mesh: Mesh
  ) -> tuple[int, Any, dict[str, Any]] | None:
    """Reads the parameters alone, otherwise as `restore_first` does.

    The files of the rest of the state may be damaged or missing.

    Args:
      steps: Which to try, in this order.
      like: A pytree of the parameters, or of their shapes and types.
      mesh: The devices.
    """
    found = self.restore_first(steps, {'params': like}, mesh, PARAMS)
    return found and (found[0], found[1]['params'], found[2])

  def drop(self, after: int, *, aside: bool) -> None:
    """Removes the checkpoints of later steps, which training will repeat.

    Args:
      after: The last step to keep.
      aside: Keep them under another name, for a person to look at.
    """
    for step in self.steps():
      if step > after and self._writes:
        # The repeated step gets a new metric.
        self._metrics.pop(step, None)
        self._damaged.discard(step)
        with self._explained(f'step {step} cannot be set aside'):
          self._remove(step, aside=aside)

  def _write(
    self, step: int, state: Any, contents: dict[str, Any], last: bool
  ) -> None:
    with self._explained(f'step {step} cannot be saved'):
      checkpoint_folder.write(
        self._path(step), step, state, contents, last=last
      )
      self._metrics[step] = (contents['metrics'] or {}).get(self._best_metric)
      best = self._ranked()[:1]
      # A damaged one may have been the best: a person is to look at it.
      whole = [x for x in self._saved() if x not in self._damaged]
      for old in {*whole} - {*retention.kept(whole, self._reach), *best}:
        self._remove(old)

  def _remove(self, step: int, *, aside: bool = False) -> None:
    # Renamed first, because a folder named by a step must be complete.
    moved = self.folder / f'{step}.{"damaged" if aside else "old"}'
    if moved.exists():
      shutil.rmtree(moved)
    self._path(step).rename(moved)
    if not aside:
      shutil.rmtree(moved)

  def _path(self, step: int) -> Path:
    return self.folder / str(step)

  def _saved(self) -> list[int]:
    """Returns the steps that folders are named after, in order.

    Raises:
      CheckpointError: A folder is a link, through which it would write.
    """
    with self._explained('it cannot be read'):
      paths = list(self.folder.iterdir()) if self.folder.exists() else []
    named = [x for x in paths if re.fullmatch(r'0|[1-9][0-9]*', x.name)]
    for path in named:
      if path.is_symlink():
        raise CheckpointError(
          f'{path} is a link: replace it by the folder that it points to'
        )
    return sorted(int(path.name) for path in named)

  def _ranked(self) -> list[int]:
    """Returns the steps that have a metric, the best first; notes damage."""
    saved = self._saved()
    # All files of what this process may remove are checked.
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
    """Checks a part of a checkpoint, and returns its JSON."""
    with self._explained(f'step {step} is damaged', step):
      return checkpoint_folder.read_contents(self._path(step), step, part)

  def _explained(
    self, problem: str, damaged: int | None = None
  ) -> contextlib.AbstractContextManager[None]:
    path = None if damaged is None else self._path(damaged)
    return checkpoint_folder.explained(self.folder, problem, path)

  def _note_damage(self, step: int, error: DamagedError) -> None:
    if step not in self._damaged:
      self._damaged.add(step)
      warn(f'WARNING: step {step} is skipped: {error}')
