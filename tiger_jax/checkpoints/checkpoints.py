"""The checkpoints of a run: which there are, and which are kept."""

from concurrent import futures
import contextlib
import errno
import json
import math
from pathlib import Path
import re
import shutil
from typing import Any

from jax.sharding import Mesh

from tiger_jax.checkpoints import checkpoint_folder, compatibility, retention
from tiger_jax.checkpoints.checkpoint_errors import DamagedError, explained
from tiger_jax.errors import CheckpointError
from tiger_jax.runtime import processes
from tiger_jax.runtime.printing import warn
from tiger_jax.runtime.sharding import fetch
from tiger_jax.training.log import require_finite


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
    # Of every step known to be whole, its metric if it has one.
    self._metrics: dict[int, float | None] = {}
    self._damaged: set[int] = set()
    self._warned: set[int] = set()
    self._step = 0
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
      # What stopped the run is what the user must hear of.
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
      with self._explained(f'step {self._step} cannot be saved'):
        pending.result()

  def steps(self) -> list[int]:
    """Returns the steps saved, in order."""
    self.wait()
    return sorted(int(path.name) for path in self._folders())

  def refuse_others(self) -> None:
    """Refuses what is there if it is of something else.

    Raises:
      CheckpointError: It is; the message tells what differs.
    """
    for step in self.steps()[::-1]:
      with contextlib.suppress(DamagedError):
        self._compare(step, self._read(step), {})
        return

  def by_metric(self) -> list[int]:
    """Returns the steps that have a metric, the best first."""
    self.wait()
    # Where all are damaged, `restore` is to say so.
    return self._ranked() or sorted(self._damaged)

  def save(
    self,
    step: int,
    state: Any,
    meta: dict[str, Any],
    metrics: dict[str, float] | None = None,
    *,
    last: bool = False,
  ) -> None:
    """Saves in the background; a step already saved is left alone.

    The checkpoint is read back before it counts as saved.

    Args:
      step: Steps done.
      state: A pytree of arrays, which may be changed after this returns.
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
    require_finite(state, step)
    state = fetch(state)
    if self._writes:
      contents = {
        'about': self._about,
        'arrays': checkpoint_folder.describe(state),
        'metrics': metrics,
        'meta': meta,
      }
      self._step = step
      self._pending = self._writer.submit(
        self._write, step, state, contents, last
      )

  def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
    """Reads a checkpoint back.

    Args:
      step: Which.
      like: A pytree of arrays, or of their shapes and types, as was saved.

    Returns:
      The state, in host memory, and the meta saved with it, the metrics added.

    Raises:
      DamagedError: It is not what was written.
      CheckpointError: It is of something else.
    """
    contents = self._read(step)
    self._compare(step, contents, {'arrays': checkpoint_folder.describe(like)})
    with self._explained(f'step {step} cannot be restored', step):
      state = checkpoint_folder.read_state(self.folder / str(step), like)
    return state, contents['meta'] | {'metrics': contents['metrics']}

  def restore_first(
    self, steps: list[int], like: Any, mesh: Mesh
  ) -> tuple[int, Any, dict[str, Any]] | None:
    """Reads the first checkpoint that is not damaged, and warns of others.

    All processes whose devices are in the mesh call it; the main one chooses,
    for it alone writes.

    Args:
      steps: Which to try, in this order.
      like: As `restore` takes it.
      mesh: The devices.

    Returns:
      The step, the state and the meta; None if there are no steps.

    Raises:
      CheckpointError: All are damaged, or the one found is of something else.
    """
    found = self._first_good(steps, like) if processes.is_main() else None
    step = processes.from_main(found[0] if found else -1, mesh)
    if step >= 0 and not found:
      found = (step, *self.restore(step, like))
    return found

  def _first_good(
    self, steps: list[int], like: Any
  ) -> tuple[int, Any, dict[str, Any]] | None:
    for step in steps:
      try:
        return step, *self.restore(step, like)
      except DamagedError as error:
        if step == steps[-1]:
          raise
        self._warn(step, error)
    return None

  def drop(self, after: int, *, aside: bool) -> None:
    """Takes the checkpoints of later steps away, which are to be made anew.

    Args:
      after: The last step to keep.
      aside: Keep them under another name, for a person to look at.
    """
    for step in self.steps():
      if step > after and self._writes:
        # When it is made anew, its metric is another.
        self._metrics.pop(step, None)
        self._damaged.discard(step)
        with self._explained(f'step {step} cannot be set aside'):
          if aside:
            self._set_aside(step)
          else:
            self._remove(step)

  def _write(
    self, step: int, state: Any, contents: dict[str, Any], last: bool
  ) -> None:
    checkpoint_folder.write(
      self.folder / str(step), step, state, contents, last=last
    )
    self._metrics[step] = (contents['metrics'] or {}).get(self._best_metric)
    saved = [int(path.name) for path in self._folders()]
    best = self._ranked()[:1]
    # One that is damaged may have been the best: a person is to look at it.
    latest = retention.kept(sorted(set(saved) - self._damaged), self._reach)
    for step in set(saved) - {*latest, *best} - self._damaged:
      self._remove(step)

  def _remove(self, step: int) -> None:
    # Under another name first: what has a step for its name is whole.
    old = self.folder / f'{step}.old'
    (self.folder / str(step)).rename(old)
    shutil.rmtree(old)

  def _set_aside(self, step: int) -> None:
    kept = self.folder / f'{step}.damaged'
    if kept.exists():
      shutil.rmtree(kept)
    (self.folder / str(step)).rename(kept)

  def _folders(self) -> list[Path]:
    """Returns the folders whose name is a step.

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
    return named

  def _ranked(self) -> list[int]:
    for path in self._folders():
      step = int(path.name)
      if step not in self._metrics and step not in self._damaged:
        self._look_at(step)
    there = {int(path.name) for path in self._folders()}
    known = {x: y for x, y in self._metrics.items() if x in there}
    values = {x: y for x, y in known.items() if y is not None}
    # The earlier of two equal steps comes first, and NaN comes last.
    return sorted(
      values, key=lambda step: (math.isnan(values[step]), -values[step], step)
    )

  def _look_at(self, step: int) -> None:
    """Notes the metric of a step, or that it is damaged."""
    try:
      metrics = self._read(step)['metrics'] or {}
      self._metrics[step] = metrics.get(self._best_metric)
    except DamagedError as error:
      self._damaged.add(step)
      self._warn(step, error)

  def _read(self, step: int) -> dict[str, Any]:
    """Checks every byte of a checkpoint, and returns its JSON."""
    with self._explained(f'step {step} is damaged', step):
      return checkpoint_folder.read_contents(self.folder / str(step), step)

  def _compare(
    self, step: int, contents: dict[str, Any], more: dict[str, Any]
  ) -> None:
    """Raises where a checkpoint is not of what is trained here."""
    writer = 'an earlier version'
    if 'version' in contents:
      writer = f'tiger_jax {str(contents["version"]):.40}'
    differing = compatibility.config_differences(
      contents['about'], self._about, writer
    )
    for name, value in more.items():
      differing += compatibility.differences(contents[name], value, name)
    if differing:
      raise CheckpointError(
        f'{self.folder / str(step)} is of another run: '
        f'{"; ".join(differing[:10])}; choose another --workdir, or the config '
        'that this was made with'
      )

  def _explained(
    self, problem: str, damaged: int | None = None
  ) -> contextlib.AbstractContextManager[None]:
    path = None if damaged is None else self.folder / str(damaged)
    return explained(self.folder, problem, path)

  def _warn(self, step: int, error: DamagedError) -> None:
    if step not in self._warned:
      self._warned.add(step)
      warn(f'WARNING: step {step} is skipped: {error}')
