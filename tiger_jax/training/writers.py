"""Where a person reads how it goes: metrics files and the progress line."""

import contextlib
import json
from pathlib import Path
import sys
import time
from typing import Any

from tqdm import tqdm

from tiger_jax.training import processes

try:
  from tensorboardX import SummaryWriter
except ImportError:
  SummaryWriter = None


class MetricsWriter:
  """Writes scalars to `metrics.jsonl` and, where installed, TensorBoard."""

  def __init__(self, workdir: Path):
    """Opens the files, appending to what is there.

    Of several processes only the main one writes.

    Args:
      workdir: Gets `metrics.jsonl` and `tensorboard/`.
    """
    self._writes = processes.is_main()
    workdir.mkdir(parents=True, exist_ok=True)
    self._path = workdir / 'metrics.jsonl'
    self._board_folder = workdir / 'tensorboard'
    self._board: Any = None

  def write(self, stage: str, step: int, values: dict[str, float]) -> None:
    """Writes one line: all values of one step of a stage."""
    if not self._writes:
      return
    line = {'stage': stage, 'step': step, 'time': round(time.time(), 3)}
    with self._path.open('a') as file:
      file.write(json.dumps(line | values) + '\n')
    # Only now: a run that measures nothing leaves no file and no thread.
    if self._board is None and SummaryWriter:
      self._board = SummaryWriter(str(self._board_folder))
    if self._board:
      for name, value in values.items():
        self._board.add_scalar(f'{stage}/{name}', value, step)
      self._board.flush()

  def rewind(self, stage: str, step: int) -> None:
    """Drops lines of `stage` past `step`, which a resumed run writes again."""
    if not self._writes or not self._path.exists():
      return
    kept = []
    for line in self._path.read_bytes().splitlines():
      try:
        record = json.loads(line)
        again = record['stage'] == stage and record['step'] > step
      except (ValueError, TypeError, KeyError):
        continue  # The line that a killed process was writing.
      if not again:
        kept.append(line + b'\n')
    aside = self._path.with_suffix('.partial')
    aside.write_bytes(b''.join(kept))
    aside.replace(self._path)

  def close(self) -> None:
    """Flushes and closes."""
    if self._board:
      # What is told there `metrics.jsonl` tells too.
      with contextlib.suppress(OSError):
        self._board.close()


def progress_line(
  label: str, total: int, initial: int = 0, unit: str = 'step'
) -> tqdm:
  """Returns the one progress line of a long stage, with its ETA.

  Args:
    label: Name of the stage.
    total: How many units it takes.
    initial: How many are done already.
    unit: What is counted.
  """
  return tqdm(
    total=total,
    initial=initial,
    desc=f'{label:>12}',
    unit=unit,
    dynamic_ncols=True,
    disable=not processes.is_main(),
    # A log file gets a line now and then, a terminal one that moves.
    mininterval=0.2 if sys.stderr.isatty() else 20,
  )
