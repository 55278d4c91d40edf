"""Shards of training histories, compared with the dataset of one machine."""

import collections
import json
import shutil

import numpy as np
from pyarrow import parquet
import pytest

pytest.importorskip('apache_beam', reason='needs the extra beam')

from tests import small, typed  # noqa: E402
from tests.beam import shops  # noqa: E402
from tiger_jax.beam import jobs, prepare, shard  # noqa: E402
from tiger_jax.data import splits, training_shards  # noqa: E402
from tiger_jax.data.packing import PackedBatches  # noqa: E402
from tiger_jax.data.training_shards import TrainingShards  # noqa: E402
from tiger_jax.errors import DataError, UsageError  # noqa: E402

CATALOG = small.items(90)
WIDTH = 5
FLAGS = list(shops.ONE)


@pytest.fixture(scope='module', name='prepared')
def _prepared(tmp_path_factory):
  root = tmp_path_factory.mktemp('shard')
  rows = small.events(CATALOG, num_users=300, shortest=3, longest=20)
  shop = shops.write(root / 'shop', rows, 'csv', catalog=CATALOG)
  out = root / 'prepared'
  prepare.prepare(shops.config(shop), ('title',), out, FLAGS)
  return out


def histories(source, num_epochs=1):
  """Returns how often each history with its target occurs."""
  found = collections.Counter()
  for step in range(num_epochs * source.steps_per_epoch):
    stack = source.stack(step, step + 1)
    batch = stack.gather(source.events)
    for row, target in zip(batch.history[0], batch.target[0], strict=True):
      first = 0
      for last in np.flatnonzero(target >= 0).tolist():
        found[(*row[first : last + 1].tolist(), int(target[last]))] += 1
        first = last + 1
  return found


def expected_histories(dataset, num_epochs=1):
  examples = splits.sequences(dataset, WIDTH)
  found = collections.Counter(
    tuple(dataset.history[start : end + 1].tolist())
    for start, end in zip(examples.start, examples.end, strict=True)
  )
  return collections.Counter({x: n * num_epochs for x, n in found.items()})


def open_shards(folder, dataset):
  shards = TrainingShards(
    folder / training_shards.FOLDER, 'shop', dataset.items.ids, WIDTH
  )
  return PackedBatches(shards, batch_size=1, seed=0)


@pytest.mark.parametrize('per_shard', [10**9, 60])
def test_shards_hold_the_histories_of_one_machine(
  prepared, tmp_path, monkeypatch, per_shard
):
  monkeypatch.setattr(shard, '_NUM_HISTORIES', per_shard)
  dataset = shops.on_one_machine(shops.config(prepared))
  out = tmp_path / 'out'
  num_histories, num_shards, num_users = shard.shard(
    prepared, WIDTH, 100, out, FLAGS
  )
  assert (num_shards > 5) == (per_shard == 60)
  source = open_shards(out, dataset)
  expected = expected_histories(dataset)
  assert histories(source) == expected
  assert num_histories == expected.total()
  sampled = shops.on_one_machine(shops.config(out))
  assert sampled.training_counts.tolist() == (
    splits.training_counts(dataset).tolist()
  )
  assert sampled.items.ids == dataset.items.ids
  assert sampled.items.fields == dataset.items.fields
  # The sample has whole histories of some users.
  assert 60 < num_users == sampled.num_users < 140 < dataset.num_users
  of_user = dict(zip(dataset.user_ids, range(dataset.num_users), strict=True))
  for row, user in enumerate(sampled.user_ids):
    assert np.array_equal(
      sampled.history_of(row), dataset.history_of(of_user[user])
    )


def test_the_output_does_not_depend_on_the_number_of_workers(
  prepared, tmp_path, monkeypatch
):
  monkeypatch.setattr(shard, '_NUM_HISTORIES', 60)
  for name, flags in (('one', shops.ONE), ('two', shops.TWO)):
    shard.shard(prepared, WIDTH, 100, tmp_path / name, list(flags))
  one, two = (
    {
      x.relative_to(folder): x.read_bytes()
      for x in sorted(folder.rglob('*'))
      if x.is_file()
    }
    for folder in (tmp_path / 'one', tmp_path / 'two')
  )
  assert one.keys() == two.keys()
  assert one == two


def test_every_file_has_users_in_every_shard(prepared, tmp_path):
  """Users of one file may have joined at the same time."""
  items = str(prepared / 'items' / 'part-00000.parquet')
  paths = sorted((prepared / 'interactions').iterdir())
  assert len(paths) > 3
  for path in paths:
    result = shard._divide((items, WIDTH, 3, 0.5), str(tmp_path), str(path))
    firsts = [number for number, _ in result[jobs.PARTS]]
    assert firsts == [0, 1, 2]
    counts = [end - first for _, (*_, first, end, _) in result[jobs.PARTS]]
    assert min(counts) > 0.1 * sum(counts)


def test_an_unknown_item_is_an_error(prepared, tmp_path):
  items = tmp_path / 'items.parquet'
  table = parquet.read_table(prepared / 'items' / 'part-00000.parquet')
  parquet.write_table(table.slice(10), items)
  path = min((prepared / 'interactions').iterdir())
  with pytest.raises(DataError, match='has an item that .* does not list'):
    shard._divide((str(items), WIDTH, 3, 0.5), str(tmp_path), str(path))


def typed_shard(prepared, *more):
  return (
    'shard', f'--config={small.ROOT}/configs/own_data.py',
    f'--config.dataset.source_dir={prepared}', '--out=out', *more,
  )  # fmt: skip


def test_the_printed_command_trains(beam, prepared, tmp_path):
  flags = [x for x in small.FLAGS if not x.startswith('--config=')]
  # Filters were applied by `prepare`.
  flags.append('--config.dataset.min_history=4')
  done = beam(*typed_shard(prepared, '--users=100', *flags))
  assert done.code == 0, done.err
  assert not done.err
  line = next(x for x in done.out.splitlines() if x.startswith('Train with'))
  command = line.partition('tiger_jax.main ')[2].replace('"', '').split()
  done = typed.run(*command, '--workdir=run', cwd=tmp_path)
  assert done.code == 0, done.err
  assert 'the training histories are in out/training' in done.out
  assert (tmp_path / 'run' / 'results.json').exists()
  dataset = json.loads((tmp_path / 'run' / 'results.json').read_text())[
    'dataset'
  ]
  assert dataset['users'] == 300
  # The speed is measured on the same batches.
  done = typed.run(*command, '--workdir=run', '--mode=bench', cwd=tmp_path)
  assert done.code == 0, done.err
  # A folder that was copied in part is not trained on.
  (tmp_path / 'half' / 'training').mkdir(parents=True)
  for name in ('interactions', 'items'):
    shutil.copytree(tmp_path / 'out' / name, tmp_path / 'half' / name)
  half = [x.replace('source_dir=out', 'source_dir=half') for x in command]
  assert half != command
  done = typed.run(*half, '--workdir=half_run', cwd=tmp_path)
  assert done.code == 3
  assert 'index.json is missing' in done.refusal
  # A lost shard is found before anything is trained.
  (tmp_path / 'out' / 'training' / training_shards.name(0)).unlink()
  done = typed.run(*command, '--workdir=other', cwd=tmp_path)
  assert done.code == 3
  assert 'part-00000.array_record is missing' in done.refusal
  # Nothing in the dataset has changed, so the first run finds it at its end.
  refused = typed.run(
    *command, '--workdir=run', '--config.train.steps=30', cwd=tmp_path
  )
  assert refused.code == 3
  assert 'part-00000.array_record is missing' in refused.refusal


@pytest.mark.parametrize(
  ('flags', 'code', 'message'),
  [
    (('--config.train.packed=False',), 2, 'config.train.packed=True'),
    (('--mode=bench', '--config.train.packed=False'), 2, 'train.packed=True'),
    (
      ('--config.model.max_history=7', '--config.train.length_buckets=(7,)'),
      2,
      'max_history is 7',
    ),
    (('--config.dataset.k_core=2',), 2, 'k_core is set'),
    (('--config.dataset.shuffle_ties=True',), 2, 'shuffle_ties is set'),
    (('--config.evaluation.transition_weight=0.1',), 2, 'transition_weight'),
    (
      ('--config.model.name=transitions', '--config.train.packed=False'),
      2,
      'whose transitions are not known',
    ),
    (
      ('--config.model.name=sasrec', '--config.train.packed=False'),
      2,
      'config.model.name=tiger',
    ),
  ],
)
def test_settings_that_shards_do_not_have_are_refused(
  prepared, tmp_path_factory, tmp_path, flags, code, message
):
  out = tmp_path / 'out'
  shard.shard(prepared, 4, 100, out, FLAGS)
  done = typed.run(
    *small.FLAGS, f'--config.dataset.source_dir={out}',
    '--config.train.packed=True', *flags, '--workdir=run', cwd=tmp_path,
  )  # fmt: skip
  assert done.code == code, done.err
  # Settings that the other models ignore are warnings.
  *warnings, error = done.err.splitlines()
  assert all(x.startswith('warning: ') for x in warnings)
  assert message in error


def test_check_data_suggests_packed_batches(prepared, tmp_path):
  shard.shard(prepared, 4, 100, tmp_path / 'out', FLAGS)
  flags = [x for x in small.FLAGS if '.train.steps=' not in x]
  flags += ['--config.dataset.source_dir=out', '--mode=check_data']
  done = typed.run(*flags, cwd=tmp_path)
  assert '--config.train.packed=true' in done.out.lower()
  assert 'Traceback' not in done.err
  packed = typed.run(*flags, '--config.train.packed=True', cwd=tmp_path)
  assert packed.code == 0, packed.err
  # The sample of users does not determine the number of steps.
  assert '--config.train.steps=' not in packed.out


def test_too_few_users_are_refused_at_once(prepared, tmp_path):
  with pytest.raises(UsageError, match='--users is 99, .* at least 100'):
    shard.shard(prepared, WIDTH, 99, tmp_path / 'out', FLAGS)


def test_a_folder_that_prepare_did_not_write_is_refused(prepared, tmp_path):
  raw = shops.write(tmp_path / 'raw', shops.events(300), 'csv', catalog=CATALOG)
  shard.shard(prepared, WIDTH, 100, tmp_path / 'sharded', FLAGS)
  damaged = tmp_path / 'damaged'
  shutil.copytree(prepared, damaged)
  (damaged / 'items' / 'part-00000.parquet').write_bytes(b'PAR1')
  for folder, message in (
    (raw, 'is not a folder that prepare wrote'),
    (tmp_path / 'sharded', 'is not a folder that prepare wrote'),
    (damaged, 'is not the file that'),
  ):
    with pytest.raises(DataError, match=message):
      shard.shard(folder, WIDTH, 100, tmp_path / 'out', FLAGS)
  with pytest.raises(UsageError, match='exists'):
    shard.shard(prepared, WIDTH, 100, tmp_path / 'sharded', FLAGS)
  assert not (tmp_path / 'out').exists()
