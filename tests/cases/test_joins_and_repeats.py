"""Tests of the counts of missing, repeated and unusable values."""

import json

import pyarrow as pa
from pyarrow import parquet
import pytest

from tests import small, typed
from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts, loading
from tiger_jax.errors import DataError

ITEMS = small.items(30, '0108{:03d}')
LOG = small.events(ITEMS, num_users=20)
BOUGHT = {x['item'] for x in LOG}


def load(folder, **flags):
  config = DatasetConfig(name='files', source_dir=str(folder), **flags)
  return loading.load_dataset(config, 0)


def log_with(change, condition=lambda item: True):
  """Returns a log in which the item ids that meet the condition are changed."""
  return [
    {**x, 'item': change(x['item']) if condition(x['item']) else x['item']}
    for x in LOG
  ]


def lines(dataset):
  return counts.lines(dataset.counts)


def test_counts_of_a_valid_shop_are_four_lines(tmp_path):
  dataset = load(small.make(tmp_path / 'shop', LOG, ITEMS))
  assert lines(dataset) == [
    f'events: {len(LOG)} read, {len(LOG)} used',
    'users: 20 read, 20 used',
    f'items: 30 read, 30 used, {30 - len(BOUGHT)} of them never bought'
    if len(BOUGHT) < 30
    else 'items: 30 read, 30 used',
    'interactions.csv: times are in seconds',
  ]


@pytest.mark.parametrize(
  ('change', 'hint'),
  [
    (lambda x: x.lstrip('0'), 'leading zeros are ignored'),
    (lambda x: f'{x}.0', 'a final .0 is ignored'),
    (lambda x: f'{x[:3]} {x[3:]}', 'spaces are ignored'),
    (lambda x: f"'{x}'", 'quotation marks are ignored'),
  ],
)
def test_refuses_a_catalog_without_any_bought_item(tmp_path, change, hint):
  folder = small.make(tmp_path / 'shop', log_with(change), ITEMS)
  with pytest.raises(DataError) as caught:
    load(folder, allow_missing_metadata=True)
  message = str(caught.value)
  assert f'none of the {len(BOUGHT)} items' in message
  assert f'{len(BOUGHT)} of {len(BOUGHT)} match when {hint}' in message
  assert 'interactions.csv' in message and 'items.csv' in message


def test_the_hint_for_ids_in_lower_case_is_to_ignore_case(tmp_path):
  catalog = small.items(30)
  log = [{**x, 'item': x['item'].lower()} for x in small.events(catalog)]
  with pytest.raises(DataError, match='match when case is ignored'):
    load(small.make(tmp_path / 'shop', log, catalog))


def test_counts_the_bought_items_that_the_catalog_lacks(tmp_path):
  odd = {x for x in BOUGHT if int(x) % 2}
  log = log_with(lambda x: x.lstrip('0'), lambda x: x in odd)
  folder = small.make(tmp_path / 'shop', log, ITEMS)
  hint = f'{len(odd)} of {len(odd)} match when leading zeros are ignored'
  with pytest.raises(DataError) as caught:
    load(folder)
  assert hint in str(caught.value)
  assert 'config.dataset.allow_missing_metadata=True' in str(caught.value)

  dataset = load(folder, allow_missing_metadata=True)
  affected = sum(x['item'] in {y.lstrip('0') for y in odd} for x in log)
  missing = dataset.counts['missing']
  assert missing['items'] == len(odd)
  assert missing['of_items'] == len(BOUGHT)
  assert missing['events'] == affected
  assert len(missing['first']) == 3
  (line,) = [x for x in lines(dataset) if x.startswith('without text')]
  assert f'{len(odd)} of {len(BOUGHT)} bought items' in line
  assert f'({affected / len(log):.1%} of events)' in line
  assert ', '.join(map(repr, missing['first'])) in line
  assert line.endswith(hint)


def test_there_is_no_hint_if_no_simple_change_makes_the_ids_match(tmp_path):
  odd = {x for x in BOUGHT if int(x) % 2}
  log = log_with(lambda x: f'new-{x}', lambda x: x in odd)
  dataset = load(
    small.make(tmp_path / 'shop', log, ITEMS), allow_missing_metadata=True
  )
  assert dataset.counts['missing']['hint'] == ''
  assert 'match' not in ' '.join(lines(dataset))


def test_repeated_events_are_dropped(tmp_path):
  once = load(small.make(tmp_path / 'once', LOG, ITEMS))
  folder = small.make(tmp_path / 'twice', LOG + LOG, ITEMS)
  twice = load(folder)
  assert twice.history.tolist() == once.history.tolist()
  assert twice.timestamps.tolist() == once.timestamps.tolist()
  assert twice.items.ids == once.items.ids
  num = len(LOG)
  assert lines(twice)[0] == (
    f'events: {2 * num} read, {num} used; dropped: {num} exact repeats'
  )
  kept = load(folder, keep_repeats=True)
  assert kept.num_interactions == 2 * num
  assert 'dropped' not in lines(kept)[0]


def test_events_that_differ_in_one_column_are_not_repeats(tmp_path):
  log = [
    ('u', '0108001', 5), ('u', '0108002', 5), ('v', '0108001', 5),
    ('u', '0108001', 6), ('u', '0108001', 5), ('v', '0108003', 1),
    ('v', '0108001', 5), ('v', '0108004', 9), ('u', '0108002', 5),
  ]  # fmt: skip
  rows = [dict(zip(('user', 'item', 'timestamp'), x, strict=True)) for x in log]
  dataset = load(small.make(tmp_path / 'shop', rows, ITEMS))
  names = [
    [dataset.items.ids[row][-1] for row in dataset.history_of(user)]
    for user in range(2)
  ]
  # Events with the same time stay in the order of the file.
  assert names == [['1', '2', '1'], ['3', '1', '4']]
  assert dataset.counts['events']['dropped'] == {'exact repeats': 3}


def test_refuses_users_with_too_few_events_after_repeats_are_dropped(tmp_path):
  rows = [{'user': 'v', 'item': '0108001', 'timestamp': 1}] * 5
  with pytest.raises(DataError) as caught:
    load(small.make(tmp_path / 'shop', LOG + rows, ITEMS))
  assert '1 users with fewer than 3 events (4 exact repeats' in str(
    caught.value
  )
  dataset = load(tmp_path / 'shop', drop_short_users=True)
  assert lines(dataset)[:2] == [
    f'events: {len(LOG) + 5} read, {len(LOG)} used; dropped: 4 exact repeats, '
    '1 of users with fewer than 3 events',
    'users: 21 read, 20 used; dropped: 1 with fewer than 3 events',
  ]


def test_counts_events_that_unseen_share_removes(tmp_path):
  dataset = load(small.make(tmp_path / 'shop', LOG, ITEMS), unseen_share=0.2)
  events = dataset.counts['events']
  assert events['used'] == dataset.num_interactions < len(LOG)
  assert sum(events['dropped'].values()) + events['used'] == events['read']
  assert 'by unseen_share' in lines(dataset)[0]


def test_the_counts_are_saved_with_the_dataset(tmp_path):
  dataset = load(small.make(tmp_path / 'shop', LOG + LOG[:1], ITEMS))
  dataset.save(tmp_path / 'data')
  assert counts.read(tmp_path / 'data') == dataset.counts
  assert counts.read(tmp_path) == {}
  assert counts.lines({}) == []


def test_the_synthetic_shop_has_counts():
  dataset = loading.load_dataset(DatasetConfig(synthetic_users=10), 0)
  events = f'events: {dataset.num_interactions} read'
  assert lines(dataset)[0].startswith(events)


@pytest.mark.parametrize('suffix', ['jsonl', 'parquet'])
def test_lists_of_text_are_joined(tmp_path, suffix):
  folder = small.make(tmp_path / 'shop', LOG, ITEMS)
  (folder / 'items.csv').unlink()
  rows = [
    {**x, 'description': [x['description'], None, f'Keeps {i} years.']
     if i % 3 else []} for i, x in enumerate(ITEMS)
  ]  # fmt: skip
  path = folder / f'items.{suffix}'
  if suffix == 'jsonl':
    path.write_text(small.as_jsonl(rows))
  else:
    parquet.write_table(pa.Table.from_pylist(rows), path)
  dataset = load(folder)
  text = dataset.items.fields['description'][dataset.items.rows['0108001']]
  assert text == f'{ITEMS[1]["description"]} Keeps 1 years.'
  assert (
    lines(dataset)[3]
    == 'text: empty: description 10; joined from lists: description 20'
  )


def test_reports_fields_of_the_wrong_type(tmp_path):
  folder = small.make(tmp_path / 'shop', LOG, ITEMS)
  (folder / 'items.csv').unlink()
  rows = [dict(x) for x in ITEMS]
  rows[3]['brand'] = {'name': 'Arden'}
  rows[7]['brand'] = True
  rows[8]['title'] = [['nested']]
  rows[9]['title'] = 501.0
  rows[10]['categories'] = [['Home', {'x': 1}], 'Garden']
  prices = ['$1,299.99', 'from 8.00', '—', None, 12.5, float('nan'), '12,50']
  for row, price in zip(rows, prices, strict=False):
    row['price'] = price
  (folder / 'items.jsonl').write_text(small.as_jsonl(rows))
  dataset = load(folder)

  def field(name, i):
    return dataset.items.fields[name][dataset.items.rows[ITEMS[i]['item']]]

  assert [field('price', i) for i in range(7)] == [
    '1299.99', 'from 8.00', '', '', '12.50', '', '12.50',
  ]  # fmt: skip
  assert field('title', 9) == '501'
  assert field('categories', 10) == 'Home; Garden'
  assert lines(dataset)[3] == (
    "text: empty: price 3; not a number: price 1 ('from 8.00'); unusable: "
    'title 1 (items.jsonl, row 9: a list of lists or records), brand 2 '
    '(items.jsonl, row 4: a record), categories 1 (items.jsonl, row 11: a list '
    'of lists or records)'
  )


def test_reports_ids_that_may_mean_a_missing_value(tmp_path):
  log = [{**x, 'user': 'NULL'} if x['user'] == 'u3' else x for x in LOG]
  dataset = load(small.make(tmp_path / 'shop', log, ITEMS))
  number = sum(x['user'] == 'u3' for x in LOG)
  assert f"{number} rows have the user 'NULL'" in lines(dataset)[-1]


def test_reports_times_before_1970_and_refuses_mixed_units(tmp_path):
  log = [dict(x) for x in LOG]
  log[8]['timestamp'] = -1
  line = lines(load(small.make(tmp_path / 'shop', log, ITEMS)))[-1]
  assert '1 times are zero or negative' in line
  for row in log[:7]:
    row['timestamp'] *= 1000
  with pytest.raises(DataError) as caught:
    load(small.make(tmp_path / 'shop', log, ITEMS))
  assert f"row 1: timestamp is '{log[0]['timestamp']}'" in str(caught.value)
  assert 'most times are in seconds, and this one is not' in str(caught.value)


def test_the_command_prints_the_hint_and_saves_the_counts(tmp_path):
  folder = small.make(
    tmp_path / 'shop', log_with(lambda x: x.lstrip('0')), ITEMS
  )
  done = typed.run(
    '--mode=data', *small.FLAGS, f'--config.dataset.source_dir={folder}',
    f'--workdir={tmp_path / "run"}', cwd=tmp_path,
  )  # fmt: skip
  assert done.code == 3
  assert 'match when leading zeros are ignored' in done.refusal
  done = typed.run(
    '--mode=data', *small.FLAGS, f'--workdir={tmp_path / "run"}',
    f'--config.dataset.source_dir={small.make(folder, LOG + LOG, ITEMS)}',
    cwd=tmp_path,
  )  # fmt: skip
  assert done.code == 0, done.err
  text = (tmp_path / 'run' / 'data' / 'counts.json').read_text()
  assert json.loads(text)['events']['dropped'] == {'exact repeats': len(LOG)}
