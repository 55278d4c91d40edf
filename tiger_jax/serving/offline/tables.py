"""Turns the recommendations of a part into the bytes of a file."""

from collections.abc import Callable
import functools
import io
import json

from jaxtyping import Float, Int
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tiger_jax.serving.bundle import MAX_TITLE
from tiger_jax.serving.snapshot import Snapshot

# The number of rows that are converted to Python objects at a time.
_ROWS = 4096


class Writer:
  """Writes the columns user, rank, item, title and score."""

  def __init__(self, snapshot: Snapshot, file_format: str):
    """Sets the catalog, and the format, a key of `FORMATS`."""
    self._encode = FORMATS[file_format]
    self._snapshot = snapshot

  @functools.cached_property
  def _items(self) -> tuple[pa.Array, pa.Array]:
    """The id and the title of every row.

    Titles are cut, because a title is written once for each recommendation.
    """
    snapshot = self._snapshot
    titles = (snapshot.title(x)[:MAX_TITLE] for x in range(len(snapshot.ids)))
    return pa.array(snapshot.ids, pa.string()), pa.array(titles, pa.string())

  def encode(
    self,
    users: tuple[str, ...],
    rows: Int[np.ndarray, 'n k'],
    scores: Float[np.ndarray, 'n k'],
  ) -> bytes:
    """Returns the content of a file.

    Args:
      users: The id of each user.
      rows: The recommended item rows of each user, best first; -1 for none.
      scores: The scores.
    """
    user, place = np.nonzero(rows >= 0)
    ids, titles = self._items
    items = pa.array(rows[user, place])
    return self._encode(
      pa.table(
        {
          'user': pa.array(users, pa.string()).take(pa.array(user)),
          'rank': pa.array((place + 1).astype(np.int32)),
          'item': ids.take(items),
          'title': titles.take(items),
          'score': pa.array(scores[user, place].astype(np.float64)),
        }
      )
    )


def _parquet(table: pa.Table) -> bytes:
  sink = io.BytesIO()
  parquet.write_table(table, sink)
  return sink.getvalue()


def _jsonl(table: pa.Table) -> bytes:
  batches = table.to_batches(max_chunksize=_ROWS)
  lines = (json.dumps(row) for batch in batches for row in batch.to_pylist())
  return ''.join(f'{line}\n' for line in lines).encode()


# Maps the value of --format, which is also the suffix of the files, to a
# function.
FORMATS: dict[str, Callable[[pa.Table], bytes]] = {
  'parquet': _parquet,
  'jsonl': _jsonl,
}
