import datetime
import json

import pyarrow as pa
from pyarrow import csv, parquet
import pytest

from tiger_jax.config import DatasetConfig
from tiger_jax.data.sources import own_files
from tiger_jax.errors import DataError

EVENTS = {
  'user': ['u', 'v', 'u', 'u', 'v', 'v', 'v'],
  'item': ['007', 'a', 'b', 'a', 'b', '007', 'a'],
  'timestamp': [30, 2, 10, 10, 1, 1, 9],
}
ITEMS = {
  'item': ['new', 'a', 'b', '007'],
  'title': ['Not bought yet', 'Tent, "green"', 'Line\nbreak', None],
  'price': [1.5, 20, None, 3],
  'categories': ['Camp > Tents', None, 'Camp; Home > Beds', ''],
  'color': ['red', 'red', 'red', 'red'],
}


def write(folder, name, columns, suffix):
  path = folder / f'{name}.{suffix}'
  if suffix == 'jsonl':
    rows = zip(*columns.values(), strict=True)
    lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
    path.write_text('\n'.join(lines))
  elif suffix == 'csv':
    csv.write_csv(pa.table(columns), path)
  else:
    parquet.write_table(pa.table(columns), path)
  return path


def load(folder, **flags):
  return own_files.load(
    DatasetConfig(name='files', source_dir=str(folder), **flags)
  )


def histories(dataset):
  """Returns the item ids in the history of each user."""
  return [
    [dataset.items.ids[row] for row in dataset.history_of(user)]
    for user in range(dataset.num_users)
  ]


def load_error(folder, error_type=DataError, **flags):
  with pytest.raises(error_type) as error:
    load(folder, **flags)
  assert '\n' not in str(error.value)
  assert error.value.exit_code == (3 if error_type is DataError else 2)
  return str(error.value)


def shop(folder, events=EVENTS, items=ITEMS, suffix='jsonl'):
  write(folder, 'interactions', events, suffix)
  write(folder, 'items', items, suffix)
  return folder


@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
def test_every_format_gives_the_same_dataset(tmp_path, suffix):
  dataset = load(shop(tmp_path, suffix=suffix))
  assert dataset.user_ids == ('u', 'v')
  # Items are sorted by hash. The hashes begin with 1150, 3e23, 629f and ca97.
  assert dataset.items.ids == ('new', 'b', '007', 'a')
  assert histories(dataset) == [['b', 'a', '007'], ['b', '007', 'a', 'a']]
  assert dataset.timestamps.tolist() == [10, 10, 30, 1, 1, 2, 9]
  titles = ('Not bought yet', 'Line break', '', 'Tent, "green"')
  assert dataset.items.fields == {
    'title': titles,
    'price': ('1.50', '', '3.00', '20.00'),
    'brand': ('', '', '', ''),
    'categories': ('Camp > Tents', 'Camp; Home > Beds', '', ''),
    'description': ('', '', '', ''),
  }
  assert dataset.items.title(2) == '007'


@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
def test_integer_ids_become_text(tmp_path, suffix):
  events = {'user': [5] * 3, 'item': [2, 1, 2], 'timestamp': [1, 2, 3]}
  items = {'item': [1, 2], 'title': [501, 88]}
  dataset = load(shop(tmp_path, events, items, suffix))
  assert dataset.user_ids == ('5',)
  assert dataset.items.ids == ('1', '2')
  assert histories(dataset) == [['2', '1', '2']]
  assert dataset.items.fields['title'] == ('501', '88')


@pytest.mark.parametrize('suffix', ['jsonl', 'parquet'])
def test_lists_of_categories_are_joined(tmp_path, suffix):
  paths = [[['A', 'B'], ['C']], [], [['A']], None]
  dataset = load(
    shop(tmp_path, items=ITEMS | {'categories': paths}, suffix=suffix)
  )
  assert dataset.items.fields['categories'] == ('A > B; C', 'A', '', '')


DATES = ['2024-03-01T12:00:00.5Z', '2024-03-01T13:00:00.25+01:00', '2024-03-02']


def test_dates_with_fractions_become_microseconds(tmp_path):
  events = {'user': ['u'] * 3, 'item': ['b', 'a', '007'], 'timestamp': DATES}
  expected = [
    1_709_294_400_250_000,
    1_709_294_400_500_000,
    1_709_337_600_000_000,
  ]
  for suffix in ('csv', 'jsonl', 'parquet'):
    folder = tmp_path / suffix
    folder.mkdir()
    dataset = load(shop(folder, events, suffix=suffix))
    assert dataset.timestamps.tolist() == expected
    assert histories(dataset) == [['a', 'b', '007']]


@pytest.mark.parametrize('zone', [None, datetime.UTC])
def test_parquet_timestamps_become_seconds(tmp_path, zone):
  times = [datetime.datetime(2024, 3, day, tzinfo=zone) for day in (3, 1, 2)]
  events = {'user': ['u'] * 3, 'item': ['b', 'a', '007'], 'timestamp': times}
  dataset = load(shop(tmp_path, events, suffix='parquet'))
  assert histories(dataset) == [['a', '007', 'b']]
  assert dataset.timestamps[0] == 1_709_251_200


def test_the_two_files_may_have_different_formats(tmp_path):
  write(tmp_path, 'interactions', EVENTS, 'csv')
  write(tmp_path, 'items', ITEMS, 'parquet')
  assert load(tmp_path).num_items == 4


def test_missing_and_ambiguous_files_are_refused(tmp_path):
  text = load_error(tmp_path)
  assert str(tmp_path) in text
  assert 'interactions.csv, interactions.jsonl, interactions.parquet' in text
  write(tmp_path, 'interactions', EVENTS, 'csv')
  write(tmp_path, 'items', ITEMS, 'csv')
  write(tmp_path, 'items', ITEMS, 'jsonl')
  assert 'items.csv and items.jsonl: keep one' in load_error(tmp_path)


@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
@pytest.mark.parametrize(
  ('name', 'column'),
  [
    ('interactions', 'user'),
    ('interactions', 'item'),
    ('items', 'item'),
    ('items', 'title'),
  ],
)
def test_a_missing_column_is_refused(tmp_path, suffix, name, column):
  shop(tmp_path, suffix=suffix)
  columns = dict(EVENTS if name == 'interactions' else ITEMS)
  del columns[column]
  path = write(tmp_path, name, columns, suffix)
  assert f'{path} has no column {column}' in load_error(tmp_path)


@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
@pytest.mark.parametrize('column', ['user', 'item', 'timestamp'])
def test_a_missing_value_is_refused(tmp_path, suffix, column):
  values = list(EVENTS[column])
  values[1] = None
  shop(tmp_path, EVENTS | {column: values}, suffix=suffix)
  path = tmp_path / f'interactions.{suffix}'
  assert f'{path}, row 2: {column} is None' in load_error(tmp_path)


@pytest.mark.parametrize(
  ('column', 'value'),
  [
    ('user', 1.0),
    ('user', True),
    ('user', '  '),
    ('item', ['a']),
    ('item', '\ud83d'),
    ('timestamp', 1.5),
    ('timestamp', 'yesterday'),
    ('timestamp', '2024-13-01'),
    ('timestamp', 2**63),
    ('timestamp', True),
    ('timestamp', ''),
  ],
)
def test_a_wrong_value_is_refused(tmp_path, column, value):
  values = list(EVENTS[column])
  values[2] = value
  shop(tmp_path, EVENTS | {column: values})
  text = load_error(tmp_path)
  assert f'interactions.jsonl, row 3: {column} is {value!r}' in text


def test_mixed_integers_and_dates_are_refused(tmp_path):
  times = [*EVENTS['timestamp'][:-1], '2024-01-01']
  shop(tmp_path, EVENTS | {'timestamp': times})
  assert 'numbers and ISO 8601 dates' in load_error(tmp_path)


def test_a_repeated_item_is_refused(tmp_path):
  items = {'item': ['a', 'b', 'a', '007'], 'title': ['1', '2', '3', '4']}
  shop(tmp_path, items=items)
  assert "items.jsonl lists item 'a' twice" in load_error(tmp_path)


def test_an_item_without_metadata_is_refused_or_kept(tmp_path):
  items = {'item': ['a', 'b'], 'title': ['1', '2']}
  shop(tmp_path, items=items)
  text = load_error(tmp_path)
  assert 'interactions.jsonl names 1 items' in text
  assert "such as '007'" in text
  dataset = load(tmp_path, allow_missing_metadata=True)
  assert dataset.items.title(dataset.items.rows['007']) == '007'


def test_a_short_user_is_refused_or_dropped(tmp_path):
  events = {name: values[:5] for name, values in EVENTS.items()}
  shop(tmp_path, events)
  assert "1 users with fewer than 3 events, such as 'v' with 2" in load_error(
    tmp_path
  )
  assert load(tmp_path, drop_short_users=True).user_ids == ('u',)


@pytest.mark.parametrize(
  ('suffix', 'content'),
  [
    ('csv', b''),
    ('csv', b'user,item,timestamp\n'),
    ('csv', b'user,item,timestamp\nu,a\n'),
    ('csv', b'user,item,timestamp\nu,\xff\xfe,3\n'),
    ('csv', b'user,item,timestamp,user\nu,a,3,v\n'),
    ('jsonl', b''),
    ('jsonl', b'{"user": "u"'),
    ('jsonl', b'{"user": "u", "item": "\xff"}'),
    ('parquet', b''),
    ('parquet', b'PAR1 and then nonsense PAR1'),
    ('parquet', b'user,item,timestamp\nu,a,3\n'),
  ],
)
def test_a_damaged_file_is_refused(tmp_path, suffix, content):
  write(tmp_path, 'items', ITEMS, 'csv')
  path = tmp_path / f'interactions.{suffix}'
  path.write_bytes(content)
  assert str(path) in load_error(tmp_path)


@pytest.mark.parametrize('value', [True, 1.0])
def test_true_and_floats_are_not_integer_ids(tmp_path, value):
  events = {'user': [1, 1, value], 'item': list('aba'), 'timestamp': [1, 2, 3]}
  shop(tmp_path, events)
  assert f'row 3: user is {value!r}' in load_error(tmp_path)


def test_text_and_integers_can_be_the_same_id(tmp_path):
  events = {'user': [1, '1', ' 1'], 'item': list('aba'), 'timestamp': [1, 2, 3]}
  assert load(shop(tmp_path, events)).user_ids == ('1',)


def test_item_rows_do_not_depend_on_the_events(tmp_path):
  """Item rows break ties of scores, so only the item ids may determine rows."""
  rows = []
  for name, order in (('a', 1), ('b', -1)):
    folder = tmp_path / name
    folder.mkdir()
    events = {column: values[::order] for column, values in EVENTS.items()}
    events['timestamp'] = EVENTS['timestamp']
    items = {column: values[::order] for column, values in ITEMS.items()}
    rows.append(load(shop(folder, events, items)).items)
  assert rows[0].ids == rows[1].ids
  assert rows[0].fields == rows[1].fields


def test_columns_for_the_template_are_read(tmp_path):
  config = DatasetConfig(name='files', source_dir=str(shop(tmp_path)))
  dataset = own_files.load(config, ('title', 'color'))
  assert dataset.items.fields['color'] == ('red',) * 4
  assert 'color' not in load(tmp_path).items.fields
  with pytest.raises(DataError, match='has no column size') as error:
    own_files.load(config, ('size',))
  assert "'color'" in str(error.value)
  # The template does not use the title.
  items = {name: ITEMS[name] for name in ('item', 'color')}
  write(tmp_path, 'items', items, 'jsonl')
  dataset = own_files.load(config, ('color',))
  assert dataset.items.title(0) == dataset.items.ids[0]
