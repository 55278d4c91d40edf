"""Implements `shard`, which writes training histories as array_record shards.

The output is a dataset whose histories may exceed the memory of a machine, see
`data.training_shards`:

`interactions/part-00000.parquet`: the events of a random sample of the users,
  for validation and test
`items/part-00000.parquet`: the catalog
`training/`: the training histories of all users
`shards.json`: the list of these files, and the counts of the raw files
"""

from collections.abc import Sequence
import functools
import hashlib
from pathlib import Path
import shutil
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pyarrow.compute as pc

from tiger_jax.beam import folders, jobs
from tiger_jax.beam.jobs import PARTS, unique
from tiger_jax.data import splits, training_shards
from tiger_jax.data.files import input_files, shards
from tiger_jax.errors import DataError, UsageError
from tiger_jax.storage import files, texts

# pyarrow.compute creates its functions at import; type checkers miss them.
_compute: Any = pc
# The largest mean number of histories in a shard. A process reads the index of
# a few shards into memory, which takes about 75 bytes for each history.
_NUM_HISTORIES = 2**18
# With this number, a random choice is almost never empty.
_FEWEST_USERS = 100
_ITEMS = Path('items') / 'part-00000.parquet'


def shard(
  prepared: Path,
  max_history: int,
  num_users: int,
  out: Path,
  flags: Sequence[str],
) -> tuple[int, int, int]:
  """Writes the histories of a prepared folder as shards.

  Args:
    prepared: The folder that `prepare` wrote.
    max_history: The largest number of items in a history, as in the config of
      the model. Longer histories are divided, see `splits.sequences`.
    num_users: About the number of users for validation and test.
    out: The folder to write, which must not exist.
    flags: The flags of the Beam runner.

  Returns:
    The numbers of histories, of shards, and of users for validation and test.

  Raises:
    UsageError: The folder exists, or `num_users` is less than 100.
    DataError: `prepare` did not write the folder, a file is missing or damaged,
      or no user has a training history.
    PeerError: A worker died.
  """
  if num_users < _FEWEST_USERS:
    raise UsageError(
      f'--users is {num_users}, too few for validation and test: choose at '
      f'least {_FEWEST_USERS}'
    )
  folders.refuse_existing(out)
  about = shards.check(prepared)
  if not about or (prepared / training_shards.FOLDER).exists():
    raise DataError(
      f'{prepared} is not a folder that prepare wrote: set '
      'config.dataset.source_dir to one'
    )
  prepared = prepared.absolute()
  path = prepared / _ITEMS
  with files.explained(f'{path} is damaged', 'prepare the data again'):
    item_ids = texts.read(path)['item']
    counts = about['counts']
    total, num_events = counts['users']['used'], counts['events']['used']
  num_shards = -(-(total + num_events // max_history) // _NUM_HISTORIES)
  settings = str(path), max_history, num_shards, num_users / max(total, 1)
  with folders.replaced(out.absolute()) as (result, work):
    (result / training_shards.FOLDER).mkdir()
    parts = input_files.require(prepared, 'interactions')
    divided, written = jobs.run(
      flags, work,
      functools.partial(_divide, settings, str(work)), [str(x) for x in parts],
      functools.partial(_write, max_history, str(work)),
    )  # fmt: skip
    samples = [x['sample'] for x in divided if x['sample']]
    if not written or not samples:
      raise DataError(
        f'no user of {prepared} has four or more events, and the last two '
        'events of each user are held out: prepare more events'
      )
    for name in ('interactions', 'items'):
      (result / name).mkdir()
    sample = pa.concat_tables([parquet.read_table(x) for x in samples])
    parquet.write_table(sample, result / 'interactions' / 'part-00000.parquet')
    shutil.copyfile(path, result / _ITEMS)
    item_counts = np.zeros(len(item_ids), np.int64)
    for x in divided:
      items, counts_of_file = np.load(x['item_counts'])
      item_counts[items] += counts_of_file
    training = result / training_shards.FOLDER
    for number, x in enumerate(written):
      Path(x['path']).rename(training / training_shards.name(number))
    training_shards.write_index(
      training,
      np.array([x['counts'] for x in written]),
      item_counts,
      item_ids,
      [x['sha256'] for x in written],
    )
    shards.write(result, about)
  num_histories = sum(sum(x['counts']) for x in written)
  return num_histories, len(written), sum(x['num_users'] for x in divided)


def _divide(
  settings: tuple[str, int, int, float], work: str, path: str
) -> jobs.Result:
  """Divides the histories of a file among the shards, by user.

  Args:
    settings: The file of the items, the largest length of a history, the number
      of shards, and the share of the users for validation and test.
    work: The folder of intermediate files.
    path: A file of interactions, sorted by user and time.
  """
  items_path, max_history, num_shards, share = settings
  table = parquet.read_table(path).combine_chunks()
  rows = _compute.index_in(table['item'], value_set=_catalog(items_path))
  if rows.null_count:
    raise DataError(
      f'{path} has an item that {items_path} does not list: prepare the data '
      'again'
    )
  history = rows.combine_chunks().to_numpy().astype(np.int32)
  runs = _compute.run_end_encode(table['user'].combine_chunks())
  offsets = np.concatenate([[0], runs.run_ends.to_numpy()]).astype(np.int64)
  numbers = np.array([_number(x) for x in runs.values.to_pylist()], np.uint64)
  is_sampled = (numbers >> np.uint64(32)) < share * 2**32
  examples = splits.windows(offsets, max_history)
  shard_of = (numbers % np.uint64(num_shards)).astype(np.int64)[examples.user]
  examples = examples.at(np.argsort(shard_of, kind='stable'))
  lengths = np.asarray(examples.end - examples.start)
  sizes = lengths + 1
  after = np.cumsum(sizes)
  within = np.arange(after[-1] if len(after) else 0)
  within -= np.repeat(after - sizes, sizes)
  stem = str(Path(work) / unique('histories'))
  np.save(
    f'{stem}-items.npy', history[np.repeat(examples.start, sizes) + within]
  )
  np.save(f'{stem}-lengths.npy', lengths)
  events = np.ones(len(history), bool)
  events[offsets[1:] - 1] = events[offsets[1:] - 2] = False
  bought = np.unique(history[events], return_counts=True)
  np.save(f'{stem}-counts.npy', np.stack(bought))
  sample = ''
  if is_sampled.any():
    sample = f'{stem}.parquet'
    chosen = np.repeat(is_sampled, np.diff(offsets))
    parquet.write_table(table.filter(pa.array(chosen)), sample)
  counts = np.bincount(shard_of, minlength=num_shards)
  first_items = np.concatenate([[0], after])
  firsts = np.cumsum(counts) - counts
  return {
    'sample': sample,
    'num_users': int(is_sampled.sum()),
    'item_counts': f'{stem}-counts.npy',
    PARTS: [
      (number, (path, stem, first, first + count, int(first_items[first])))
      for number, (first, count) in enumerate(
        zip(firsts.tolist(), counts.tolist(), strict=True)
      )
      if count
    ],
  }


def _write(
  max_history: int, work: str, group: tuple[int, list[Any]]
) -> jobs.Result:
  """Writes a shard from its parts of all files."""
  lengths, items = [], []
  # Sorted by the path of the file, because Beam returns them in any order.
  for _, stem, first, end, first_item in sorted(group[1]):
    # Copied, because each memory map keeps its file open.
    part = np.load(f'{stem}-lengths.npy', mmap_mode='r')
    lengths.append(np.array(part[first:end]))
    end_item = first_item + int((lengths[-1] + 1).sum())
    part = np.load(f'{stem}-items.npy', mmap_mode='r')
    items.append(np.array(part[first_item:end_item]))
  all_lengths = np.concatenate(lengths)
  end = np.cumsum(all_lengths + 1) - 1
  examples = splits.Examples(np.zeros_like(end), end - all_lengths, end)
  path = Path(work) / unique('shard')
  counts, digest = training_shards.write_shard(
    path, np.concatenate(items), examples, max_history
  )
  return {'path': str(path), 'counts': counts.tolist(), 'sha256': digest}


@functools.lru_cache(maxsize=1)
def _catalog(path: str) -> pa.Array:
  return parquet.read_table(path, columns=['item'])['item'].combine_chunks()


def _number(user_id: str) -> int:
  """Returns a hash of a user id, of 64 bits."""
  digest = hashlib.blake2b(user_id.encode(), digest_size=8).digest()
  return int.from_bytes(digest)
