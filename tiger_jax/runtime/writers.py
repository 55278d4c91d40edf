"""Writes metrics to files, and shows a progress bar."""

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
# The maximum size of a file that is read. A line has about 300 bytes.
_MAX_BYTES = 2**30


class MetricsWriter:
  """Writes scalars to `metrics.jsonl`, and to TensorBoard if it is installed.

  A stage that trains also writes its lines to a second `metrics.jsonl` in the
  folder of the stage. A later run with a different config replaces the lines in
  the first file. The second file is kept, because the later run sets the old
  folder of the stage aside.
  """

  def __init__(self, workdir: Path):
    """Creates the workdir; only the main process writes files into it."""
    self._writes = processes.is_main()
    workdir.mkdir(parents=True, exist_ok=True)
    self._path = workdir / _NAME
    # The second file of each stage that trains.
    self._stage_paths: dict[str, Path] = {}
    self._board_folder = workdir / 'tensorboard'
    self._board: Any = None
    self._has_board = SummaryWriter is not None

  def write(self, stage: str, step: int, values: dict[str, float]) -> None:
    """Writes one line: all values of one step of a stage."""
    if not self._writes:
      return
    record = {'stage': stage, 'step': step, 'time': round(time.time(), 3)}
    line = (json.dumps(record | values) + '\n').encode()
    for path in {self._path, self._stage_paths.get(stage, self._path)}:
      with files.open_to_append(path) as file:
        file.write(line)
    if self._has_board:
      try:
        self._write_to_board(stage, step, values)
      except OSError as error:
        # `metrics.jsonl` has the same numbers.
        self._has_board = False
        warn(
          f'WARNING: metrics are no longer written to {self._board_folder} '
          f'({os_errors.explain(error)[0]})'
        )

  def rewind(self, stage: str, step: int, folder: Path) -> None:
    """Prepares the files for a stage that resumes after `step`.

    Removes the lines of the stage that belong to later steps or to another run,
    and an incomplete last line.

    Args:
      stage: The name of the stage.
      step: The number of steps done.
      folder: The folder of the stage, for the second `metrics.jsonl`.
    """
    if not self._writes:
      return
    stage_path = folder / _NAME
    self._stage_paths[stage] = stage_path
    lines = _read_lines(self._path)
    # Earlier versions wrote no second file.
    stage_lines = _read_lines(stage_path) if stage_path.exists() else lines
    other_lines = [line for line in lines if not _belongs_to(line, stage)]
    kept = [line for line in stage_lines if _belongs_to(line, stage, step)]
    if lines or kept:
      files.write(self._path, b''.join(other_lines + kept))
    if stage_path != self._path and (kept or stage_path.exists()):
      files.write(stage_path, b''.join(kept))

  def close(self) -> None:
    """Flushes and closes the TensorBoard file."""
    if self._board:
      with contextlib.suppress(OSError):
        self._board.close()

  def _write_to_board(
    self, stage: str, step: int, values: dict[str, float]
  ) -> None:
    # Opened at the first write, so that a run without metrics has no file and
    # no thread.
    if self._board is None:
      if self._board_folder.is_symlink():
        raise OSError(errno.ELOOP, 'It is a link')
      assert SummaryWriter
      self._board = SummaryWriter(str(self._board_folder))
    for name, value in values.items():
      self._board.add_scalar(f'{stage}/{name}', value, step)
    self._board.flush()


def _read_lines(path: Path) -> list[bytes]:
  """Returns the lines of a file, except an incomplete last line."""
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


def _belongs_to(line: bytes, stage: str, step: float = math.inf) -> bool:
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
  is_valid = isinstance(stage, str) and isinstance(step, int | float)
  return (stage, step) if is_valid else None


def progress_line(
  label: str, total: int, initial: int = 0, unit: str = 'step'
) -> tqdm:
  """Returns the progress bar of a stage, with the estimated time left."""
  stream = SafeStream(sys.stderr)
  return tqdm(
    file=stream,
    total=total,
    initial=initial,
    desc=f'{label:>12}',
    unit=unit,
    dynamic_ncols=True,
    disable=not processes.is_main(),
    # A terminal is updated often, a log file rarely.
    mininterval=0.2 if stream.isatty() else 20,
  )


def say_above(bar: tqdm, text: str) -> None:
  """Prints a line above a progress bar."""
  bar.clear()
  say(text)
  bar.refresh()
