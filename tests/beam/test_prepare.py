"""Tests that `prepare` gives the same dataset as one machine."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip('apache_beam', reason='needs the extra beam')

from tests import small  # noqa: E402
from tests.beam import shops  # noqa: E402
from tiger_jax.beam import events as tasks  # noqa: E402
from tiger_jax.beam import folders  # noqa: E402
from tiger_jax.beam.prepare import prepare  # noqa: E402
from tiger_jax.errors import DataError, UsageError  # noqa: E402

CATALOG = small.items(60)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
  """Divides even a small file into several chunks."""
  monkeypatch.setattr(tasks, '_CHUNK_ROWS', 300)


def prepared(tmp_path, config, columns=('title',)):
  """Returns the dataset of the folder that `prepare` writes, and the counts."""
  out = tmp_path / 'out'
  found = prepare(config, columns, out, shops.ONE)
  named = dataclasses.replace(config, source_dir=str(out))
  return shops.on_one_machine(named, columns), found


def as_on_one_machine(tmp_path, config, columns=('title',)):
  expected = shops.on_one_machine(config, columns)
  dataset, found = prepared(tmp_path, config, columns)
  shops.assert_equal(dataset, expected)
  counts = dict(expected.counts)
  assert sorted(found.pop('notes', ())) == sorted(counts.pop('notes', ()))
  assert found == counts
  return dataset


@pytest.mark.parametrize('kind', ['csv', 'csv.gz', 'jsonl', 'parquet', 'dates'])
def test_every_format_gives_the_same_dataset(tmp_path, kind):
  shop = shops.write(tmp_path / 'shop', shops.events(), kind, catalog=CATALOG)
  dataset = as_on_one_machine(tmp_path, shops.config(shop))
  assert dataset.num_users > 50


@pytest.mark.parametrize(
  'settings',
  [
    {'min_rating': 4.0},
    {'keep_repeats': True},
    {'repeated_items': 'first'},
    {'repeated_items': 'last', 'max_history': 5},
    {'min_history': 8},
    {'k_core': 6},
    {'k_core': 9, 'min_history': 12, 'min_rating': 3.0, 'max_history': 40},
  ],
  ids=str,
)
def test_every_filter_gives_the_same_dataset(tmp_path, settings):
  shop = shops.write(tmp_path / 'shop', shops.events(), 'csv', catalog=CATALOG)
  dataset = as_on_one_machine(tmp_path, shops.config(shop, **settings))
  assert dataset.num_users


def test_excluded_users_and_items_are_dropped(tmp_path):
  shop = shops.write(tmp_path / 'shop', shops.events(), 'csv', catalog=CATALOG)
  lists = {}
  for name, ids in {
    'exclude_users': 'u1\nu7\nnobody\n', 'exclude_items': 'A001\nA059\n',
  }.items():  # fmt: skip
    (tmp_path / name).write_text(ids)
    lists[name] = str(tmp_path / name)
  dataset = as_on_one_machine(tmp_path, shops.config(shop, **lists))
  assert 'u1' not in dataset.user_ids
  assert 'A059' not in dataset.items.ids


def test_bad_rows_are_counted_in_the_order_of_the_files(tmp_path):
  rows = shops.events()
  for row in range(0, len(rows), 97):
    rows[row] = {**rows[row], 'user': ''}
  for row in range(50, len(rows), 131):
    rows[row] = {**rows[row], 'timestamp': 'yesterday'}
  shop = shops.write(tmp_path / 'shop', rows, 'csv', 11, CATALOG)
  as_on_one_machine(tmp_path, shops.config(shop, max_bad_share=0.1))


@pytest.mark.parametrize(
  'times',
  [
    lambda time: time * 1000 + 7,  # Milliseconds, with a fraction of a second.
    lambda time: time - 1_500_000_000,  # Small numbers without a unit.
    lambda time: -time,
    lambda time: f'{time}.25',
    lambda time: time if time % 5 else time - 1_500_000_000,
  ],
)
def test_every_unit_of_times_gives_the_same_dataset(tmp_path, times):
  rows = [{**x, 'timestamp': times(x['timestamp'])} for x in shops.events()]
  shop = shops.write(tmp_path / 'shop', rows, 'csv', catalog=CATALOG)
  as_on_one_machine(tmp_path, shops.config(shop))


def test_the_unit_may_be_known_only_from_the_last_file(tmp_path):
  rows = shops.events()
  for number, row in enumerate(rows):
    small_time = row['timestamp'] - 1_500_000_000
    row['timestamp'] = small_time if number < 2600 else 1000 * row['timestamp']
  shop = shops.write(tmp_path / 'shop', rows, 'jsonl', 9, CATALOG)
  as_on_one_machine(tmp_path, shops.config(shop))


def test_times_and_the_items_table_are_optional(tmp_path):
  rows = [{k: x[k] for k in ('user', 'item')} for x in shops.events()]
  shop = shops.write(tmp_path / 'shop', rows, 'csv')
  dataset = as_on_one_machine(tmp_path, shops.config(shop))
  assert dataset.timestamps is None


def test_other_text_columns_are_kept(tmp_path):
  catalog = [{**row, 'color': f'c{i}'} for i, row in enumerate(CATALOG)]
  shop = shops.write(tmp_path / 'shop', shops.events(), 'csv', catalog=catalog)
  columns = ('title', 'color')
  dataset = as_on_one_machine(tmp_path, shops.config(shop), columns)
  assert 'c7' in dataset.items.fields['color']


def test_an_empty_file_is_ignored(tmp_path):
  shop = shops.write(tmp_path / 'shop', shops.events(500), 'csv', 1, CATALOG)
  (shop / 'interactions' / 'part-1.csv').write_text('user,item,timestamp\n')
  as_on_one_machine(tmp_path, shops.config(shop))


def test_placeholders_are_reported(tmp_path):
  rows = shops.events(500)
  for row in rows[::9]:
    row['user'] = 'null'
  shop = shops.write(tmp_path / 'shop', rows, 'csv', catalog=CATALOG)
  as_on_one_machine(tmp_path, shops.config(shop))


def test_the_comparison_finds_a_difference(tmp_path):
  """Checks that the tests of this file can fail."""
  rows = shops.events()
  shop = shops.write(tmp_path / 'shop', rows, 'csv', catalog=CATALOG)
  dataset, _ = prepared(tmp_path, shops.config(shop))
  swapped = dataset.history.copy()
  place = int(np.flatnonzero(np.diff(swapped))[0])
  swapped[[place, place + 1]] = swapped[[place + 1, place]]
  with pytest.raises(AssertionError):
    shops.assert_equal(dataset, dataclasses.replace(dataset, history=swapped))
  # One additional event.
  extra = shops.write(
    tmp_path / 'extra', [*rows, rows[5]], 'csv', catalog=CATALOG
  )
  other = shops.on_one_machine(shops.config(extra, keep_repeats=True))
  with pytest.raises(AssertionError):
    shops.assert_equal(dataset, other)


def refused(tmp_path, config, columns=('title',)):
  """Returns the error message, which must be the same on both paths."""
  with pytest.raises(DataError) as expected:
    shops.on_one_machine(config, columns)
  with pytest.raises(DataError) as error:
    prepare(config, columns, tmp_path / 'out', shops.ONE)
  assert not (tmp_path / 'out').exists()
  assert not (tmp_path / 'out.partial').exists()
  assert str(error.value) == str(expected.value)
  return str(error.value)


def damaged(tmp_path, change, kind='csv', **settings):
  shop = shops.write(tmp_path / 'shop', shops.events(), kind, catalog=CATALOG)
  change(shop)
  return refused(tmp_path, shops.config(shop, **settings))


def replace(name, old, new):
  def change(shop):
    path = shop / name
    path.write_text(path.read_text().replace(old, new))

  return change


def test_the_error_names_the_first_bad_row(tmp_path):
  def change(shop):
    for number in (2, 1):
      replace(f'interactions/part-{number}.csv', 'u1,', ',')(shop)

  assert 'part-1.csv, row ' in damaged(tmp_path, change)


def test_too_many_bad_rows_of_all_files_are_an_error(tmp_path):
  change = replace('interactions/part-3.csv', 'u1,', ',')
  assert 'rows are bad' in damaged(tmp_path, change, max_bad_share=0.01)


def test_a_truncated_file_is_an_error(tmp_path):
  def change(shop):
    path = shop / 'interactions' / 'part-2.csv.gz'
    path.write_bytes(path.read_bytes()[:-30])

  assert 'part-2.csv.gz' in damaged(tmp_path, change, 'csv.gz')


def test_a_column_in_only_some_files_is_an_error(tmp_path):
  change = replace('interactions/part-1.csv', 'timestamp', 'other')
  assert 'only one of them has a column' in damaged(tmp_path, change)


def test_items_with_other_ids_are_an_error(tmp_path):
  change = replace('items.csv', 'A0', 'B0')
  assert 'has none of the' in damaged(tmp_path, change)


def test_a_repeated_item_is_an_error(tmp_path):
  change = replace('items.csv', 'A001', 'A002')
  assert 'lists item' in damaged(tmp_path, change)


def test_users_with_few_events_are_an_error(tmp_path):
  message = damaged(tmp_path, lambda shop: None, drop_short_users=False)
  assert 'users with fewer than 3 events' in message


def test_filters_that_drop_everything_are_an_error(tmp_path):
  message = damaged(tmp_path, lambda shop: None, k_core=2000)
  assert 'after all filters' in message


def test_a_table_without_rows_is_an_error(tmp_path):
  def change(shop):
    for path in (shop / 'interactions').iterdir():
      path.write_text('user,item,timestamp\n')

  assert 'is empty' in damaged(tmp_path, change)


def swap_bits(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 3] ^= 1
  path.write_bytes(data)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda x: x.unlink(), 'is missing'),
    (lambda x: x.write_bytes(x.read_bytes()[:-1]), 'is not the file'),
    (swap_bits, 'is not the file'),
    (lambda x: x.with_name('part-9.parquet').write_bytes(x.read_bytes()),
     'not in the list'),
  ],
)  # fmt: skip
def test_shards_that_differ_from_the_list_are_an_error(
  tmp_path, change, message
):
  shop = shops.write(tmp_path / 'shop', shops.events(), 'csv', catalog=CATALOG)
  prepare(shops.config(shop), ('title',), tmp_path / 'out', shops.ONE)
  change(tmp_path / 'out' / 'interactions' / 'part-00001.parquet')
  with pytest.raises(DataError, match=message):
    shops.on_one_machine(shops.config(tmp_path / 'out'))
  with pytest.raises(DataError, match=message):
    prepare(
      shops.config(tmp_path / 'out'), ('title',), tmp_path / 'two', shops.ONE
    )


def test_users_are_in_the_order_of_their_first_good_rows(tmp_path):
  folder = tmp_path / 'shop' / 'interactions'
  folder.mkdir(parents=True)
  good = [f'{u},{i},{t}' for t, i in enumerate('abc') for u in ('u1', 'u2')]
  lines = ['user,item,timestamp', 'u2,a,yesterday', *good]
  (folder / 'a.csv').write_text('\n'.join(lines))
  config = shops.config(tmp_path / 'shop', max_bad_share=0.5)
  dataset = as_on_one_machine(tmp_path, config)
  assert dataset.user_ids == ('u1', 'u2')


def test_existing_and_foreign_folders_are_kept(tmp_path):
  shop = shops.write(tmp_path / 'shop', shops.events(), 'csv', catalog=CATALOG)
  out = tmp_path / 'out'
  out.mkdir()
  with pytest.raises(UsageError, match='exists'):
    prepare(shops.config(shop), ('title',), out, shops.ONE)
  out.rmdir()
  partial = tmp_path / 'out.partial'
  partial.mkdir()
  (partial / 'mine').touch()
  with pytest.raises(UsageError, match='mine'):
    prepare(shops.config(shop), ('title',), out, shops.ONE)
  assert [x.name for x in partial.iterdir()] == ['mine']


def test_files_of_a_killed_pipeline_are_not_read(tmp_path):
  shop = shops.write(tmp_path / 'shop', shops.events(), 'csv', catalog=CATALOG)
  left = tmp_path / 'out.partial' / 'result' / 'interactions'
  left.mkdir(parents=True)
  (left / 'part-00099.parquet').write_bytes(b'half of a file')
  as_on_one_machine(tmp_path, shops.config(shop))
  assert not (tmp_path / 'out.partial').exists()


def test_the_output_appears_only_when_it_is_complete(tmp_path):
  out = tmp_path / 'out'
  with folders.replaced(out) as (result, _):
    (result / 'file').touch()
    assert not out.exists()
    with (
      pytest.raises(UsageError, match='another process uses'),
      folders.replaced(out),
    ):
      pass
  assert [x.name for x in tmp_path.iterdir()] == ['out']
  assert [x.name for x in out.iterdir()] == ['file']


def test_only_your_own_data_can_be_prepared(tmp_path):
  config = dataclasses.replace(shops.config(tmp_path), name='movielens/1m')
  with pytest.raises(UsageError, match='own files'):
    prepare(config, ('title',), tmp_path / 'out', shops.ONE)
