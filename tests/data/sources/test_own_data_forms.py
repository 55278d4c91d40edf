"""Tests of the forms in which people have their own data."""

import csv
import datetime
import gzip

import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest

from tests import small
from tests.data.sources.test_own_files import histories, load, load_error
from tiger_jax.config import ColumnsConfig, DatasetConfig
from tiger_jax.data import loading
from tiger_jax.data.events import event_times, time_values

ITEMS = small.items(12)
LOG = small.events(ITEMS, num_users=6)
LOG_CSV, ITEMS_CSV = small.as_csv(LOG), small.as_csv(ITEMS)
LOG_JSON = small.as_jsonl(LOG)


def zstd(content):
  return pa.compress(content, 'zstd', asbytes=True)


def content(dataset):
  return (
    dataset.user_ids, dataset.items.ids, dataset.items.fields,
    dataset.history.tolist(), dataset.timestamps.tolist(),
  )  # fmt: skip


@pytest.fixture
def plain(tmp_path):
  return content(load(small.make(tmp_path / 'plain', LOG, ITEMS)))


@pytest.mark.parametrize('name', ['csv', 'tsv', 'txt', 'jsonl', 'json'])
@pytest.mark.parametrize('end', ['', '.gz', '.zst'])
def test_every_suffix_gives_the_same_dataset(tmp_path, plain, name, end):
  folder = tmp_path / 'shop'
  folder.mkdir()
  compress = {'': bytes, '.gz': gzip.compress, '.zst': zstd}[end]
  for table, rows in (('interactions', LOG), ('items', ITEMS)):
    text = small.as_jsonl(rows) if 'json' in name else small.as_csv(rows)
    (folder / f'{table}.{name}{end}').write_bytes(compress(text.encode()))
  assert content(load(folder)) == plain


@pytest.mark.parametrize('form', ['csv', 'jsonl.gz', 'parquet'])
def test_a_folder_of_files_is_read_in_natural_order(tmp_path, plain, form):
  folder = small.make(tmp_path / 'shop', LOG, ITEMS)
  (folder / 'interactions.csv').unlink()
  parts = folder / 'interactions'
  parts.mkdir()
  (parts / '_SUCCESS').touch()
  (parts / '.part.crc').write_bytes(b'\0')
  size = len(LOG) // 11
  for i in range(12):
    rows = LOG[i * size : (i + 1) * size if i < 11 else None]
    if not rows:
      continue
    path = parts / f'part-{i}.{form}'
    if form == 'parquet':
      # Each file has a dictionary of its own.
      table = pa.Table.from_pylist(rows)
      users = table['user'].dictionary_encode()
      parquet.write_table(table.set_column(0, 'user', users), path)
    elif form == 'csv':
      path.write_text(small.as_csv(rows))
    else:
      path.write_bytes(gzip.compress(small.as_jsonl(rows).encode()))
  assert content(load(folder)) == plain


def test_the_error_in_a_folder_names_the_file(tmp_path):
  folder = small.make(tmp_path / 'shop', LOG, ITEMS)
  parts = folder / 'interactions'
  parts.mkdir()
  (folder / 'interactions.csv').unlink()
  assert f'{parts} has no files' in load_error(folder)
  (parts / 'a.csv').write_text(LOG_CSV)
  (parts / 'b.csv').write_text('user,item,timestamp\nu,i,3\nu,,3\n')
  assert f'{parts}/b.csv, row 2: item is None' in load_error(folder)
  (parts / 'b.csv').write_text('user,item\nu,i\n')
  assert 'only one of them has a column timestamp' in load_error(folder)
  (parts / 'b.jsonl').write_text(LOG_JSON)
  assert 'such as a.csv and b.jsonl' in load_error(folder)
  (parts / 'c.xlsx').touch()
  assert 'c.xlsx is not one of' in load_error(folder)


def test_only_one_candidate_may_exist(tmp_path):
  folder = small.make(tmp_path / 'shop', LOG, ITEMS)
  (folder / 'interactions.csv.gz').write_bytes(gzip.compress(b'x'))
  assert 'has interactions.csv and interactions.csv.gz: keep' in load_error(
    folder
  )


@pytest.mark.parametrize('form', ['csv', 'jsonl', 'parquet'])
def test_the_config_names_columns(tmp_path, plain, form):
  rows = [
    {'who': x['user'], 'asin': 'B' + x['item'], 'parent_asin': x['item'],
     'timestamp': x['timestamp']} for x in LOG
  ]  # fmt: skip
  folder = small.make(tmp_path / 'shop', LOG, ITEMS)
  (folder / 'interactions.csv').unlink()
  path = folder / f'interactions.{form}'
  if form == 'csv':
    path.write_text(small.as_csv(rows))
  elif form == 'jsonl':
    path.write_text(small.as_jsonl(rows))
  else:
    parquet.write_table(pa.Table.from_pylist(rows), path)
  columns = ColumnsConfig(user='who', item='parent_asin')
  # The table of items has no column parent_asin, so its column item is read.
  assert content(load(folder, columns=columns)) == plain
  message = load_error(folder, columns=ColumnsConfig(user='who'))
  assert "'asin' and 'parent_asin', and either could be item" in message
  assert 'config.dataset.columns.item' in message
  message = load_error(folder, columns=ColumnsConfig(user='buyer', item='asin'))
  assert "no column 'buyer', which config.dataset.columns.user" in message
  assert "'who', 'asin', 'parent_asin', 'timestamp'" in message
  # The usual names do not count for a column that has a name.
  message = load_error(folder, columns=ColumnsConfig(user='who', item='sku'))
  assert "no column 'sku', which config.dataset.columns.item" in message


def test_without_items_and_times(tmp_path):
  folder = tmp_path / 'shop'
  folder.mkdir()
  (folder / 'interactions.csv').write_text('user,item\nu,b\nu,a\nu,c\n')
  dataset = load(folder)
  assert dataset.timestamps is None
  assert histories(dataset) == [['b', 'a', 'c']]
  assert dataset.items.title(0) == dataset.items.ids[0]
  notes = ' '.join(dataset.counts['notes'])
  assert notes.count('in the order of the rows') == 1
  assert notes.count('the ids of items are their titles') == 1


def test_bad_rows_are_dropped_up_to_the_allowed_share(tmp_path):
  rows = [*LOG_CSV.splitlines(), 'u1,A001', ',A001,5', 'u1,A001,soon']
  folder = small.make(tmp_path / 'shop', LOG, ITEMS)
  (folder / 'interactions.csv').write_text('\n'.join(rows))
  message = load_error(folder, max_bad_share=0.01)
  assert f'3 of {len(LOG) + 3} rows are bad' in message
  assert 'config.dataset.max_bad_share is 0.01' in message
  dataset = load(folder, max_bad_share=0.2)
  assert dataset.num_interactions == len(LOG)
  counts = dataset.counts['rows']['interactions']
  assert counts['read'] == counts['kept'] + 3 == len(LOG) + 3
  assert set(counts['dropped']) == {
    'with a wrong number of cells', 'with no user', 'with a wrong timestamp',
  }  # fmt: skip
  (sample,) = counts['dropped']['with no user']['samples']
  assert sample == f'interactions.csv, row {len(LOG) + 2}: None'
  assert 'row 44' not in load_error(folder)


def test_the_error_for_bad_rows_only_gives_the_reason(tmp_path):
  folder = small.make(tmp_path / 'shop', LOG, ITEMS)
  (folder / 'interactions.csv').write_text(
    'user,item,timestamp\nu,a,07.01.2024\nu,b,08.01.2024\n'
  )
  message = load_error(folder, max_bad_share=1.0)
  assert 'all 2 rows are bad' in message
  assert "with a wrong timestamp (interactions.csv, row 1: '07.01" in message


def test_a_dropped_row_leaves_no_user(tmp_path):
  folder = small.make(tmp_path / 'shop', LOG, ITEMS)
  text = LOG_CSV + 'new,A001,soon\nu1,unknown,never\n'
  (folder / 'interactions.csv').write_text(text)
  dataset = load(folder, max_bad_share=0.2)
  assert 'new' not in dataset.user_ids
  assert 'unknown' not in dataset.items.ids


def test_users_are_in_the_order_of_their_first_good_rows(tmp_path):
  good = [f'{u},{i},{t}' for t, i in enumerate('abc') for u in ('u1', 'u2')]
  path = tmp_path / 'interactions.csv'
  datasets = []
  for bad in ([], ['u2,c,yesterday']):
    path.write_text('\n'.join(['user,item,timestamp', *bad, *good]))
    datasets.append(load(tmp_path, max_bad_share=0.5))
  one, other = datasets
  assert one.user_ids == other.user_ids == ('u1', 'u2')
  assert one.items.ids == other.items.ids
  assert one.history.tolist() == other.history.tolist()


def test_ratings(tmp_path):
  rows = [dict(x, Stars='4.5' if i % 9 else '2') for i, x in enumerate(LOG)]
  folder = small.make(tmp_path / 'shop', LOG, ITEMS)
  path = folder / 'interactions.csv'
  path.write_text(small.as_csv(rows))
  num_good = sum(x['Stars'] == '4.5' for x in rows)
  flags = {'min_rating': 3.0, 'drop_short_users': True}
  assert load(folder, **flags).num_interactions == num_good
  assert load(folder).num_interactions == len(LOG)
  rows[4]['Stars'] = '4,5'
  path.write_text(small.as_csv(rows))
  assert "row 5: rating is '4,5'" in load_error(folder, **flags)
  path.write_text(LOG_CSV)
  assert 'no column rating' in load_error(folder, **flags)


SECOND = 1_404_950_400


@pytest.mark.parametrize(
  ('values', 'expected', 'unit'),
  [
    ([SECOND, SECOND + 1, 0], [SECOND, SECOND + 1, 0], 'seconds'),
    ([SECOND * 1000, 0], [SECOND, 0], 'milliseconds'),
    ([SECOND * 1000 + 5], [SECOND * 10**6 + 5000], 'milliseconds'),
    ([SECOND * 10**6 + 7], [SECOND * 10**6 + 7], 'microseconds'),
    ([SECOND * 10**9 + 7], [SECOND], 'nanoseconds'),
    (['1.4049504E+09', f'{SECOND}'], [SECOND, SECOND], 'seconds'),
    ([f'{SECOND}.25'], [SECOND * 10**6 + 250_000], 'seconds'),
    ([float(SECOND), float(SECOND)], [SECOND, SECOND], 'seconds'),
    ([3, 1, 2], [3, 1, 2], 'unknown'),
    (['2014-07-10'], [SECOND], 'dates'),
    (['2014-07-10T02:00:00+02:00'], [SECOND], 'dates'),
    (['2014-07-10 00:00:00.5'], [SECOND * 10**6 + 500_000], 'dates'),
    ([datetime.date(2014, 7, 10)], [SECOND], 'dates'),
    ([datetime.datetime(2014, 7, 10, 0, 0, 1)], [SECOND + 1], 'dates'),
  ],
)
@pytest.mark.parametrize('as_arrow', [True, False])
def test_times(values, expected, unit, as_arrow):
  times = event_times.Times()
  parsed, problems = times.read(pa.array(values) if as_arrow else values)
  assert not any(problem.rows.any() for problem in problems)
  times.keep(parsed, np.ones(len(values), bool))
  result, (note, *_) = times.finish('x.csv')
  assert result.tolist() == expected
  assert unit in note


def test_the_first_block_decides_the_unit_and_the_kind():
  times = event_times.Times()
  for values, wrong in (
    ([0, 5], []), ([SECOND, SECOND, SECOND * 1000, 3], [2]),
    ([SECOND * 1000] * 3, [0, 1, 2]), ([10**18, SECOND], [0]),
    (['2014-07-10', str(SECOND)], [0]),
  ):  # fmt: skip
    _, problems = times.read(values)
    rows = np.logical_or.reduce([problem.rows for problem in problems])
    assert np.flatnonzero(rows).tolist() == wrong


@pytest.mark.parametrize(
  'value', ['1e999', 'nan', '1e99999999', '0000-01-01', '2024-02-30', '１', '']
)
def test_text_that_is_no_time(value):
  for column in (pa.array([value]), [value]):
    assert time_values.parse(column).kinds.tolist() == [time_values.BAD]


@pytest.mark.whole_runs
@pytest.mark.parametrize(
  ('shop', 'folder'),
  [
    ('Beauty', 'amazon2014_beauty'),
    pytest.param(
      'Sports_and_Outdoors', 'amazon2014_sports', marks=pytest.mark.slow
    ),
    pytest.param('Toys_and_Games', 'amazon2014_toys', marks=pytest.mark.slow),
  ],
)
def test_an_export_of_real_data_gives_the_same_dataset(
  tmp_path, data_root, shop, folder
):
  official = loading.load_dataset(
    DatasetConfig(
      name=f'amazon2014/{shop}',
      source_dir=str(data_root / folder),
    ),
    0,
  )
  items, users = official.items, official.user_ids
  with open(tmp_path / 'interactions.csv', 'w', newline='') as file:
    rows = csv.writer(file, delimiter=';')
    rows.writerow(['customer_id', 'product_id', 'date'])
    for user in range(official.num_users):
      part = slice(*official.offsets[user : user + 2])
      for row, time in zip(
        official.history[part], official.timestamps[part], strict=True
      ):
        date = datetime.datetime.fromtimestamp(time, datetime.UTC)
        rows.writerow([users[user], items.ids[row], date.isoformat()])
  with open(tmp_path / 'items.csv', 'w', newline='') as file:
    rows = csv.writer(file, delimiter=';')
    rows.writerow(['asin', 'name', *list(items.fields)[1:]])
    rows.writerows(zip(items.ids, *items.fields.values(), strict=True))
  exported = load(tmp_path)
  assert exported.user_ids == users
  assert exported.items.ids == items.ids
  assert exported.items.fields == items.fields
  for name in ('history', 'offsets', 'timestamps'):
    ours, theirs = getattr(exported, name), getattr(official, name)
    assert ours.dtype == theirs.dtype
    assert ours.tobytes() == theirs.tobytes()
