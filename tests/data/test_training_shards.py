"""Training histories on disk, compared with those in memory."""

from concurrent import futures
import itertools
import shutil

import numpy as np
import pytest

from tests import shards
from tests.data.traceable import equal, make_dataset
from tiger_jax.checkpoints.ledger import Ledger
from tiger_jax.data import batches, splits, training_shards
from tiger_jax.data.packing import GroupedHistories, PackedBatches
from tiger_jax.data.training_shards import TrainingShards
from tiger_jax.errors import DataError, UsageError

WIDTH = 6
# Seven shards are more than can be open at once.
NUM_SHARDS = 7
DATASET = make_dataset(np.random.default_rng(0).integers(3, 25, 60).tolist())


@pytest.fixture(scope='module', name='folders')
def _folders(tmp_path_factory):
  """Maps a number of shards to a folder with as many."""
  root = tmp_path_factory.mktemp('shards')
  return {
    num: shards.write(root / str(num), DATASET, WIDTH, num)
    for num in (1, NUM_SHARDS)
  }


def make_source(
  folder,
  batch_size=4,
  seed=0,
  steps_per_call=2,
  ids=DATASET.items.ids,
  **options,
):
  histories = TrainingShards(folder, DATASET.name, ids, WIDTH, **options)
  return PackedBatches(histories, batch_size, seed, steps_per_call)


def stacks_of(source, num_epochs=2):
  size = source.steps_per_call
  return [
    source.stack(start, start + size)
    for start in range(0, num_epochs * source.steps_per_epoch, size)
  ]


def batches_of(source, num_epochs=2):
  """Returns the gathered batches of some epochs."""
  return [
    x.gather(source.events) if source.events is not None else x.batch
    for x in stacks_of(source, num_epochs)
  ]


def plans_of(source):
  return [x if source.events is not None else x.plan for x in stacks_of(source)]


def test_one_shard_gives_the_batches_of_the_dataset(folders):
  examples = splits.sequences(DATASET, WIDTH)
  whole = PackedBatches(GroupedHistories(DATASET, examples, WIDTH), 4, 0, 2)
  on_disk = make_source(folders[1], resident_bytes=0)
  assert on_disk.events is None and whole.events is not None
  assert equal(batches_of(on_disk), batches_of(whole))
  assert equal(plans_of(on_disk), plans_of(whole))
  assert on_disk.steps_per_epoch == whole.steps_per_epoch
  assert on_disk.mean_targets == whole.mean_targets


@pytest.mark.parametrize('num_shards', [1, NUM_SHARDS])
def test_batches_from_disk_equal_those_from_memory(folders, num_shards):
  on_disk = make_source(folders[num_shards], resident_bytes=0)
  examples = splits.sequences(DATASET, WIDTH)
  size = 4 * int((examples.end - examples.start + 1).sum())
  in_memory = make_source(folders[num_shards], resident_bytes=size)
  assert in_memory.events is not None
  assert make_source(folders[1], resident_bytes=size - 1).events is None
  assert equal(batches_of(on_disk), batches_of(in_memory))
  ledgers = [
    [y for x in plans_of(source) for y in Ledger(None, 0).add(x, 0)]
    for source in (on_disk, in_memory)
  ]
  assert ledgers[0] == ledgers[1]
  assert len(set(ledgers[0])) == len(ledgers[0])


@pytest.mark.parametrize('num_shards', [1, NUM_SHARDS])
def test_every_epoch_has_every_history_once(folders, num_shards):
  source = make_source(
    folders[num_shards], batch_size=1, steps_per_call=1, resident_bytes=0
  )
  epochs = np.split(np.arange(2 * source.steps_per_epoch), 2)
  expected = sorted(splits.sequences(DATASET, WIDTH).end.tolist())
  found = []
  for steps in epochs:
    targets = np.concatenate([
      source.stack(step, step + 1).batch.target.ravel()
      for step in steps.tolist()
    ])  # fmt: skip
    # An item identifies its event.
    found.append(targets[targets >= 0].tolist())
    assert sorted(found[-1]) == expected
  assert found[0] != found[1]


def test_an_epoch_reads_the_shards_one_after_the_other(folders):
  source = make_source(folders[NUM_SHARDS], batch_size=1, steps_per_call=1)
  shard = splits.sequences(DATASET, WIDTH).user % NUM_SHARDS
  shard_of = dict(
    zip(
      splits.sequences(DATASET, WIDTH).end.tolist(),
      shard.tolist(),
      strict=True,
    )
  )
  orders = []
  for epoch in range(4):
    first = epoch * source.steps_per_epoch
    order = []
    for step in range(first, first + source.steps_per_epoch):
      stack = source.stack(step, step + 1)
      target = stack.gather(source.events).target
      order += [shard_of[x] for x in target[target >= 0].tolist()]
    orders.append([x for x, _ in itertools.groupby(order)])
    assert sorted(orders[-1]) == list(range(NUM_SHARDS))
  assert len(set(map(tuple, orders))) > 1


def test_threads_read_the_same_batches(folders):
  expected = stacks_of(make_source(folders[NUM_SHARDS], resident_bytes=0))
  source = make_source(folders[NUM_SHARDS], resident_bytes=0)
  starts = range(0, 2 * len(expected), 2)
  with futures.ThreadPoolExecutor(8) as pool:
    stacks = list(pool.map(lambda x: source.stack(x, x + 2), starts[::-1]))
  assert equal(stacks[::-1], expected)


def test_a_process_reads_only_its_rows(folders, monkeypatch):
  source = make_source(folders[NUM_SHARDS], resident_bytes=0)
  own = np.array([False, True, True, False])
  expected = stacks_of(source)
  read = []
  original = TrainingShards._read

  def count(self, shard, records, sizes):
    read.extend(records.tolist())
    return original(self, shard, records, sizes)

  monkeypatch.setattr(TrainingShards, '_read', count)
  for whole, part in zip(expected, stacks_of(source.of_rows(own)), strict=True):
    for x, y in zip(whole.batch, part.batch, strict=True):
      assert np.array_equal(x[:, own], y[:, own])
      assert (y[:, ~own] == -1).all()
  num_own = sum(int(x.plan.is_last[:, own].sum()) for x in expected)
  assert len(read) == num_own


def rewrite_index(folder, counts=lambda x: x, ids=lambda x: x):
  with np.load(folder / 'index.npz') as saved:
    training_shards.write_index(
      folder,
      counts(saved['counts']),
      saved['items'],
      ids(DATASET.items.ids),
      [],
    )


DAMAGES = {
  'missing shard': (
    lambda x: (x / training_shards.name(3)).unlink(),
    DataError,
    r'part-00003.array_record is missing: copy the whole folder again',
  ),
  'truncated shard': (
    lambda x: (x / training_shards.name(3)).write_bytes(
      (x / training_shards.name(3)).read_bytes()[:100]
    ),
    DataError,
    r'part-00003.array_record is damaged .*: copy the whole folder',
  ),
  'other shard': (
    lambda x: shutil.copy(
      x / training_shards.name(2), x / training_shards.name(3)
    ),
    DataError,
    r'part-00003.array_record does not have the records that index.npz lists',
  ),
  'no index': (
    lambda x: (x / 'index.npz').unlink(),
    DataError,
    'index.npz is missing: copy the whole folder again',
  ),
  'damaged index': (
    lambda x: (x / 'index.npz').write_bytes(b'PK'),
    DataError,
    'the index of the training histories in .* is damaged .index.npz is not '
    'the file that was saved.: delete the folder, then copy the whole folder',
  ),
  'other lengths': (
    lambda x: rewrite_index(x, counts=lambda y: y[:, [0, 2, 1, *range(3, 7)]]),
    DataError,
    'does not have the records that index.npz lists',
  ),
  'negative counts': (
    lambda x: rewrite_index(x, counts=lambda y: -y),
    DataError,
    'wrong counts',
  ),
  'unknown items': (
    lambda x: rewrite_index(x, ids=lambda y: y[:5]),
    DataError,
    'has unknown items',
  ),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_a_damaged_folder_is_refused(folders, tmp_path, name):
  change, kind, message = DAMAGES[name]
  folder = tmp_path / 'training'
  shutil.copytree(folders[NUM_SHARDS], folder)
  change(folder)
  ids = DATASET.items.ids[: 5 if name == 'unknown items' else None]
  for resident_bytes in (0, 10**9):
    with pytest.raises(kind, match=message) as error:
      stacks_of(make_source(folder, ids=ids, resident_bytes=resident_bytes))
    assert '\n' not in str(error.value)


def test_a_shard_that_is_lost_during_training_is_one_error(folders, tmp_path):
  folder = tmp_path / 'training'
  shutil.copytree(folders[NUM_SHARDS], folder)
  source = make_source(folder, resident_bytes=0)
  for shard in range(NUM_SHARDS):
    (folder / training_shards.name(shard)).unlink()
  with pytest.raises(DataError, match='part-0000. *.array_record is damaged'):
    list(batches.prefetch(source, 0, source.steps_per_epoch))


@pytest.mark.parametrize('resident_bytes', [0, 10**9])
@pytest.mark.parametrize('empty', [0, 1, 2])
def test_a_shard_may_have_no_histories(tmp_path, empty, resident_bytes):
  of_user = np.arange(DATASET.num_users) % 2
  of_user += of_user >= empty
  folder = shards.write(tmp_path / 'training', DATASET, WIDTH, 3, of_user)
  source = make_source(folder, resident_bytes=resident_bytes)
  targets = [x.target[x.target >= 0] for x in batches_of(source, 1)]
  expected = splits.sequences(DATASET, WIDTH).end
  assert set(np.concatenate(targets).tolist()) <= set(expected.tolist())
  assert len(np.concatenate(targets)) > 0.8 * len(expected)


def test_shards_of_another_width_are_refused(folders):
  with pytest.raises(UsageError, match='max_history is 9, .* set it to 6'):
    TrainingShards(folders[1], 'shop', DATASET.items.ids, 9)


def test_shards_of_another_dataset_are_refused(folders):
  ids = DATASET.items.ids
  with pytest.raises(DataError, match='items of the dataset are not those of'):
    TrainingShards(folders[1], 'shop', (*ids[1:], ids[0]), WIDTH)
