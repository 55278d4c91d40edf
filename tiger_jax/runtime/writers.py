"""Reports progress: metrics files and the progress line."""

import contextlib
import errno
import json
import math
from pathlib import Path
import sys
import time
from typing import Any

from tqdm import tqdm

from tiger_jax.runtime import processes
from tiger_jax.runtime.printing import SafeStream, say, warn
from tiger_jax.storage import files, os_errors

try:
  from tensorboardX import SummaryWriter
except ImportError:
  SummaryWriter = None

_NAME = 'metrics.jsonl'
# Larger than the file of any run: a line has 300 bytes.
_MAX_BYTES = 2**30


class MetricsWriter:
  """Writes scalars to `metrics.jsonl` and, where installed, TensorBoard.

  A stage that trains also writes its lines to a second `metrics.jsonl`, in its
  own folder. A later run with another config sets that folder aside, and the
  lines stay in it, while the file of the workdir gets the lines of the new run.
  """

  def __init__(self, workdir: Path):
    """Makes the folder; only the main process of a run writes files into it."""
    self._writes = processes.is_main()
    workdir.mkdir(parents=True, exist_ok=True)
    self._path = workdir / _NAME
    # The second file of each stage that has one, by stage.
    self._own_paths: dict[str, Path] = {}
    self._board_folder = workdir / 'tensorboard'
    self._board: Any = None
    self._has_board = SummaryWriter is not None

  def write(self, stage: str, step: int, values: dict[str, float]) -> None:
    """Writes one line: all values of one step of a stage."""
    if not self._writes:
      return
    record = {'stage': stage, 'step': step, 'time': round(time.time(), 3)}
    line = (json.dumps(record | values) + '\n').encode()
    for path in {self._path, self._own_paths.get(stage, self._path)}:
      with files.open_to_append(path) as file:
        file.write(line)
    if self._has_board:
      try:
        self._write_to_board(stage, step, values)
      except OSError as error:
        # `metrics.jsonl` has the same numbers.
        self._has_board = False
        warn(
          f'WARNING: {self._board_folder} is not written any more '
          f'({os_errors.explain(error)[0]})'
        )

  def rewind(self, stage: str, step: int, folder: Path) -> None:
    """Prepares the files for a stage that continues after `step`.

    Drops the lines of the stage that belong to later steps or to another run.
    Other lines stay, except an incomplete last line. The second `metrics.jsonl`
    is in the folder of the stage.
    """
    if not self._writes:
      return
    own_path = folder / _NAME
    self._own_paths[stage] = own_path
    lines = _read_lines(self._path)
    # If an earlier version began the stage, it has no second file.
    own_lines = _read_lines(own_path) if own_path.exists() else lines
    other_lines = [line for line in lines if not _is_of(line, stage)]
    kept = [line for line in own_lines if _is_of(line, stage, step)]
    if lines or kept:
      files.write(self._path, b''.join(other_lines + kept))
    if own_path != self._path and (kept or own_path.exists()):
      files.write(own_path, b''.join(kept))

  def close(self) -> None:
    """Flushes and closes."""
    if self._board:
      with contextlib.suppress(OSError):
        self._board.close()

  def _write_to_board(
    self, stage: str, step: int, values: dict[str, float]
  ) -> None:
    # Opened late, so that a run without metrics has no file and no thread.
    if self._board is None:
      if self._board_folder.is_symlink():
        raise OSError(errno.ELOOP, 'It is a link')
      assert SummaryWriter
      self._board = SummaryWriter(str(self._board_folder))
    for name, value in values.items():
      self._board.add_scalar(f'{stage}/{name}', value, step)
    self._board.flush()


def _read_lines(path: Path) -> list[bytes]:
  """Returns the lines of a file, without an incomplete last line."""
  if path.is_symlink():
    raise OSError(errno.ELOOP, 'It is a link', str(path))
  try:
    lines = files.read(path, _MAX_BYTES).splitlines(keepends=True)
  except FileNotFoundError:
    return []
  except ValueError as error:
    raise OSError(errno.EINVAL, str(error), str(path)) from error
  if lines and not lines[-1].endswith(b'\n'):
    last = lines.pop()
    if _parse(last):
      lines.append(last + b'\n')
  return lines


def _is_of(line: bytes, stage: str, step: float = math.inf) -> bool:
  """Returns whether a line belongs to a stage, at `step` or earlier."""
  record = _parse(line)
  return record is not None and record[0] == stage and record[1] <= step


def _parse(line: bytes) -> tuple[str, float] | None:
  """Returns the stage and the step of a line; None if it is not valid."""
  try:
    record = json.loads(line)
    stage, step = record['stage'], record['step']
  except (ValueError, TypeError, KeyError, RecursionError):
    return None
  is_ours = isinstance(stage, str) and isinstance(step, int | float)
  return (stage, step) if is_ours else None


def progress_line(
  label: str, total: int, initial: int = 0, unit: str = 'step'
) -> tqdm:
  """Returns the one progress line of a long stage, with its ETA."""
  stream = SafeStream(sys.stderr)
  return tqdm(
    file=stream,
    total=total,
    initial=initial,
    desc=f'{label:>12}',
    unit=unit,
    dynamic_ncols=True,
    disable=not processes.is_main(),
    # A log file gets a line now and then, a terminal one that moves.
    mininterval=0.2 if stream.isatty() else 20,
  )


def say_above(bar: tqdm, text: str) -> None:
  """Prints a line above a progress line."""
  bar.clear()
  say(text)
  bar.refresh()
