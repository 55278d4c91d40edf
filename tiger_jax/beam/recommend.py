"""Implements `recommend`, which recommends items to all users.

The output is that of `--mode=recommend_all`, see `serving.offline.output`. A
part does not depend on the other parts, so any worker can write it.
"""

from collections.abc import Sequence
import functools
from pathlib import Path
import shutil
import time
from typing import Any

from tiger_jax.beam import jobs
from tiger_jax.serving.loading import load
from tiger_jax.serving.offline import job


def recommend(
  workdir: Path,
  out: Path,
  flags: Sequence[str],
  *,
  histories: Path | None,
  k: int,
  file_format: str,
  batch_size: int | None,
) -> None:
  """Writes the k best items of every user.

  If the folder already has some of the parts, only the others are computed.

  Args:
    workdir: The folder of a run or of a bundle.
    out: The folder to write, see `recommend_all`.
    flags: The flags of the Beam runner.
    histories: A file of histories; None for all users of the run.
    k: The number of items for each user.
    file_format: A key of `tables.FORMATS`.
    batch_size: The number of histories in a search; None for the
      `evaluation.batch_size` of the run.

  Raises:
    TigerError: See `recommend_all`.
    PeerError: A worker died.
  """
  arguments = (
    str(workdir.absolute()), str(out.absolute()),
    str(histories.absolute()) if histories else '', k, file_format, batch_size,
  )  # fmt: skip
  opened = _open(arguments)
  start = time.monotonic()
  with opened.output.opened():
    missing = [
      number
      for number in range(opened.num_parts)
      if not opened.output.counts(number)
    ]
    written: list[jobs.Result] = []
    if missing:
      work = out.absolute() / '_work'
      shutil.rmtree(work, ignore_errors=True)  # Of a killed run.
      work.mkdir()
      task = functools.partial(_write, arguments)
      written, _ = jobs.run(flags, work, task, missing)
      shutil.rmtree(work, ignore_errors=True)
    counts = opened.output.finish()
  num_users = sum(result['users'] for result in written)
  job.show(counts, num_users, time.monotonic() - start)


@functools.lru_cache(maxsize=1)
def _open(arguments: Any) -> job.Job:
  """Checks the arguments, and loads the model once for each worker."""
  workdir, out, histories, k, file_format, batch_size = arguments
  return job.open_job(
    load(Path(workdir)).snapshot,
    Path(out),
    histories=Path(histories) if histories else None,
    k=k,
    file_format=file_format,
    batch_size=batch_size,
  )


def _write(arguments: Any, number: int) -> jobs.Result:
  """Writes a part."""
  return {'users': _open(arguments).write([number])}
