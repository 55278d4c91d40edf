"""Recommends items to all users of a run, or to the users of a file.

The users are divided into parts. Each part becomes one file, which depends only
on its users, the model and the options. Several processes can therefore share
the work, and a job that was killed resumes with the missing parts.
"""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
import time
from typing import Any, NamedTuple

import jax
from jaxtyping import Float, Int
import numpy as np

from tiger_jax.runtime import processes, sharding
from tiger_jax.runtime.printing import say
from tiger_jax.runtime.writers import progress_line
from tiger_jax.serving import arguments
from tiger_jax.serving.model import named_arrays
from tiger_jax.serving.offline.histories import (
  FileHistories,
  Part,
  RunHistories,
  Source,
  refuse_long_id,
)
from tiger_jax.serving.offline.output import Counts, Output
from tiger_jax.serving.offline.tables import Writer
from tiger_jax.serving.options import Options
from tiger_jax.serving.search import BATCHES, Query
from tiger_jax.serving.snapshot import Snapshot

# A part has at most this number of recommendations, which bounds the memory.
_MAX_ROWS = 2**18
# Smaller parts would waste time. The histories of a search are padded to the
# longest one, and only large parts have many histories of equal length.
_MIN_USERS = 4096
# If neither limit applies, there are at least this number of parts.
_NUM_PARTS = 64


def recommend_all(
  snapshot: Snapshot,
  folder: Path,
  *,
  histories: Path | None = None,
  k: int = 10,
  options: Options = Options(),  # noqa: B008 (it is frozen)
  file_format: str = 'parquet',
  batch_size: int | None = None,
) -> Counts:
  """Writes the k best items of every user to a folder, see `output`.

  Each list equals that of `Recommender.recommend_users`, up to float32 rounding
  of scores. For a file, it equals that of `Recommender.recommend` with
  `strict=False`.

  If the folder already has some of the parts, only the others are computed. If
  there are several processes, all of them must call this function.

  Args:
    snapshot: The model and the catalog.
    folder: The folder to write: a new one, or one of an earlier call with the
      same arguments.
    histories: A file of histories, see `FileHistories`; None for all users of
      the run.
    k: The number of items for each user.
    options: Filters, sampling and search options.
    file_format: A key of `tables.FORMATS`.
    batch_size: The number of histories in a search; None for the
      `evaluation.batch_size` of the run.

  Returns:
    The numbers of users and recommendations.

  Raises:
    UsageError: An argument is wrong, or the folder holds something else.
    DataError: A file cannot be read or written.
  """
  job = open_job(
    snapshot, folder, histories=histories, k=k, options=options,
    file_format=file_format, batch_size=batch_size,
  )  # fmt: skip
  output, num_parts = job.output, job.num_parts
  processes.require_same(
    job.made_from, 'start all processes with the same flags and the same files'
  )
  with output.opened() if processes.is_main() else contextlib.nullcontext():
    processes.require_shared(folder, '--out')
    start = time.monotonic()
    numbers = range(
      jax.process_index() * num_parts // jax.process_count(),
      (jax.process_index() + 1) * num_parts // jax.process_count(),
    )
    num_users = job.write(numbers)
    if not processes.is_main():
      output.await_end()
    counts = output.finish()
    show(counts, num_users, time.monotonic() - start)
  return counts


class Job(NamedTuple):
  """A job of `recommend_all` whose arguments are checked.

  Attributes:
    query: The number of items, and the options.
    source: The histories.
    output: The folder to write.
    num_parts: The number of parts.
    users_per_part: The number of users of each part, except the last.
    batch_size: The number of histories in a search.
    made_from: JSON that determines every row of every part.
  """

  query: Query
  source: Source
  output: Output
  num_parts: int
  users_per_part: int
  batch_size: int
  made_from: dict[str, Any]

  def write(self, numbers: Sequence[int]) -> int:
    """Writes the parts that are missing; returns the number of their users."""
    return _write(
      self.query, self.source, self.output, numbers, self.users_per_part,
      _batch_size(self.query, self.batch_size, self.source.num_users),
    )  # fmt: skip


def open_job(
  snapshot: Snapshot,
  folder: Path,
  *,
  histories: Path | None = None,
  k: int = 10,
  options: Options = Options(),  # noqa: B008 (it is frozen)
  file_format: str = 'parquet',
  batch_size: int | None = None,
) -> Job:
  """Checks the arguments of `recommend_all`; writes nothing."""
  query = Query.of(snapshot, k, options)
  query.max_histories(0)  # Refuses a large k before anything is written.
  if batch_size is None:
    batch_size = snapshot.model.session.config.evaluation.batch_size
  batch_size = arguments.whole_number(batch_size, 'batch_size', 1, 2**20)
  refuse_long_id(snapshot.ids, 'item')
  source: Source
  if histories is None:
    source = RunHistories(snapshot)
  else:
    source = FileHistories(snapshot, histories)
  size = part_size(source.num_users, query.k)
  num_parts = -(-source.num_users // size)
  made_from = {
    'model': snapshot.model.version,
    'catalog': _catalog_digest(query),
    'histories': source.digest,
    'k': query.k,
    'options': dataclasses.asdict(options),
    'format': file_format,
    'users_per_part': size,
  }
  made_from = json.loads(json.dumps(made_from))
  output = Output(folder, file_format, num_parts, made_from)
  return Job(query, source, output, num_parts, size, batch_size, made_from)


def part_size(num_users: int, k: int) -> int:
  """Returns the number of users of a part, a power of two.

  It does not depend on the number of processes, so that their number may change
  between two runs of the same job.
  """
  wanted = max(_MIN_USERS, num_users // _NUM_PARTS)
  return 1 << max(1, min(wanted, _MAX_ROWS // k)).bit_length() - 1


def _write(
  query: Query,
  source: Source,
  output: Output,
  numbers: Sequence[int],
  size: int,
  batch_size: int,
) -> int:
  """Writes the missing parts of this process; returns the number of users."""
  done = {number for number in numbers if output.counts(number)}
  missing = [number for number in numbers if number not in done]
  num_done = sum(_num_users(source, number, size) for number in done)
  num_missing = sum(_num_users(source, number, size) for number in missing)
  writer = Writer(query.snapshot, output.suffix)
  with progress_line(
    'recommend', num_done + num_missing, num_done, 'user'
  ) as bar:
    for number in missing:
      part = source.read(number * size, size)
      rows, scores = search_part(query, part, batch_size, bar.update)
      counts = Counts(
        users=len(part.users),
        rows=int((rows >= 0).sum()),
        popular=sum(not history for history in part.histories),
        unknown_ids=part.num_unknown,
      )
      output.write(number, writer.encode(part.users, rows, scores), counts)
  return num_missing


def _num_users(source: Source, number: int, size: int) -> int:
  return min(size, source.num_users - number * size)


def _batch_size(query: Query, batch_size: int, num_users: int) -> int:
  """Returns a batch size that can be divided equally among the devices."""
  batch_size = min(
    batch_size, next((x for x in BATCHES if x >= num_users), batch_size)
  )
  num_shards = sharding.num_batch_shards(query.snapshot.model.session.mesh)
  return -(-batch_size // num_shards) * num_shards


def search_part(
  query: Query, part: Part, batch_size: int, advance: Callable[[int], Any]
) -> tuple[Int[np.ndarray, 'n k'], Float[np.ndarray, 'n k']]:
  """Returns the items of each user of a part, and their scores.

  Histories of similar length are searched together, because all histories of a
  search are padded to the longest.

  Args:
    query: The number of items, and the options.
    part: The users and their histories.
    batch_size: The number of histories in a search. Searches with very long
      lists of excluded items have fewer.
    advance: A function that is called with the number of users of each search.

  Returns:
    The item rows, best first, and their scores; -1 and 0 for no item.
  """
  rows = np.full((len(part.users), query.k), -1, np.int32)
  scores = np.zeros(rows.shape)
  widths = query.snapshot.model.session.config.train.length_buckets
  lengths = [len(history) for history in part.histories]
  order = np.argsort(lengths, kind='stable').tolist()
  empty = order[: lengths.count(0)]
  if empty:
    popular, popular_scores = query.popular()
    rows[empty, : len(popular)] = popular[None]
    scores[empty, : len(popular)] = popular_scores[None]
    advance(len(empty))
  start = len(empty)
  while users := order[start : start + batch_size]:
    size = batch_size
    while size > query.max_histories(lengths[users[-1]]):
      size //= 2
      users = users[:size]
    start += size
    beams = query.search(
      [part.histories[user] for user in users],
      [part.rows[user] for user in users],
      (size,),
      widths,
    )
    n = len(users)
    valid = beams.valid[:n, : query.k]
    rows[users] = np.where(valid, beams.items[:n, : query.k], -1)
    scores[users] = np.where(valid, beams.scores[:n, : query.k], 0)
    advance(n)
  return rows, scores


def _catalog_digest(query: Query) -> str:
  """Returns a sha256 of the catalog and of the transitions."""
  snapshot = query.snapshot
  names = json.dumps([snapshot.ids, snapshot.titles])
  digest = hashlib.sha256(names.encode())
  arrays = named_arrays(query.retriever.mixture)
  arrays |= {'codes': snapshot.codes, 'rows': snapshot.rows}
  arrays |= {'counts': snapshot.counts}
  for name, array in sorted(arrays.items()):
    digest.update(f'{name} {array.dtype} {array.shape} '.encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def show(counts: Counts, num_users: int, seconds: float) -> None:
  """Prints what was written."""
  say(
    f'{counts.rows:,} recommendations for {counts.users:,} users'
    + (f', {num_users:,} of them now' if num_users < counts.users else '')
    + (f' ({num_users / seconds:,.0f} users per second)' if num_users else '')
  )
  if counts.popular:
    say(f'{counts.popular:,} users with an empty history have popular items')
  if counts.unknown_ids:
    say(
      f'{counts.unknown_ids:,} ids in histories are not in the catalog, and '
      'were ignored'
    )
