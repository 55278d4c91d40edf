"""Tests of text files with blanks, uneven rows and mixed column names."""

import gzip
import io
import json
import zipfile

import pyarrow as pa
from pyarrow import parquet
import pytest

from tests import small
from tests.cases.test_own_text_files import (
  ITEMS,
  LOG,
  content,
  load,
  load_error,
  write,
)
from tiger_jax.data import counts
from tiger_jax.data.files import csv_table

LOG_CSV, ITEMS_CSV = small.as_csv(LOG), small.as_csv(ITEMS)


@pytest.fixture
def plain(tmp_path):
  return content(load(write(tmp_path / 'plain')))


def quoted(rows, separator=', ', before=''):
  lines = [list(rows[0]), *([*map(str, x.values())] for x in rows)]
  return ''.join(
    before + separator.join(f'"{x}"' for x in line) + '\n' for line in lines
  )


@pytest.mark.parametrize('separator', [', ', ' ,   ', '; ', '\t ', '| '])
@pytest.mark.parametrize('before', ['', ' '])
def test_ignores_blanks_before_quotations(tmp_path, plain, separator, before):
  texts = (quoted(x, separator, before) for x in (LOG, ITEMS))
  assert content(load(write(tmp_path / 'shop', *texts))) == plain


def test_reads_a_separator_within_a_quotation_after_a_blank(tmp_path):
  catalog = [dict(x, title=f'{x["title"]}, "new"\nkind') for x in ITEMS]
  text = quoted([{k: v.replace('"', '""') for k, v in x.items()}
                 for x in catalog])  # fmt: skip
  titles = load(write(tmp_path / 'shop', None, text)).items.fields['title']
  assert all(title.endswith(', "new" kind') for title in titles)


@pytest.mark.parametrize('index', [0, 1, len(LOG) - 1])
def test_rows_with_and_without_quotations_have_the_same_ids(
  tmp_path, plain, index
):
  rows = LOG_CSV.splitlines()
  user, item, time = rows[index + 1].split(',')
  rows[index + 1] = f'{user}, "{item}", {time}'
  folder = write(tmp_path / 'shop', '\n'.join(rows))
  assert content(load(folder)) == plain


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('line_end', ['\n', '\r\n'])
def test_reads_rows_in_every_encoding(tmp_path, encoding, line_end):
  rows = [dict(x, title=f'{x["title"]} ☃') for x in ITEMS]
  texts = (quoted(x).replace('\n', line_end) for x in (LOG, rows))
  shop = load(write(tmp_path / 'shop', *texts, encoding=encoding))
  assert all(x.endswith(' ☃') for x in shop.items.fields['title'])


def test_empty_cells_are_missing_values_with_both_readers(tmp_path):
  catalog = [dict(x, brand='', price='') for x in ITEMS]
  for text in (small.as_csv(catalog), quoted(catalog)):
    fields = load(write(tmp_path / 'shop', None, text)).counts['fields']
    assert fields['brand'] == fields['price'] == {'empty': 12}
  log = [dict(x, user='') if i == 5 else x for i, x in enumerate(LOG)]
  for text in (small.as_csv(log), quoted(log)):
    message = load_error(write(tmp_path / 'shop', text))
    assert 'row 6: user is None' in message


@pytest.mark.parametrize('index', [0, 1, 2, 20, len(LOG) + 1])
@pytest.mark.parametrize('blanks', ['   ', '\t', ''])
@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_ignores_blank_lines(tmp_path, plain, index, blanks, mark):
  rows = LOG_CSV.splitlines()
  rows[index:index] = [blanks, blanks]
  text = mark + '\n'.join(rows)
  assert content(load(write(tmp_path / 'shop', text))) == plain


@pytest.mark.parametrize('text', [LOG_CSV, quoted(LOG)])
@pytest.mark.parametrize(
  ('change', 'cells'), [(lambda x: x + ',7', 4), (lambda x: x[:2], 1)]
)
def test_the_error_for_a_wrong_number_of_cells_names_the_row(
  tmp_path, text, change, cells
):
  rows = text.splitlines()
  rows[9] = change(rows[9]).replace('"', '')
  rows.insert(3, ' ')
  message = load_error(write(tmp_path / 'shop', '\n'.join(rows)))
  path = tmp_path / 'shop' / 'interactions.csv'
  assert f'{path}, row 9 (line 11 of the file) has {cells} cells' in message
  assert 'names 3 columns' in message


def test_the_error_for_an_unclosed_quotation_names_the_row(tmp_path):
  for row in (9, len(LOG)):
    rows = LOG_CSV.splitlines()
    rows[row] = rows[row].replace(',15', ', "15')
    for end in ('', '\n'):
      message = load_error(write(tmp_path / 'shop', '\n'.join(rows) + end))
      assert f'row {row} (line {row + 1} of the file) ends within' in message
      assert ',,' not in message
  message = load_error(write(tmp_path / 'shop', LOG_CSV + '"\n'))
  assert f'row {len(LOG) + 1} ' in message


def test_the_error_for_an_unclosed_quotation_names_an_uneven_row(tmp_path):
  """The message must not quote the empty row that the reader appends."""
  rows = LOG_CSV.splitlines()
  rows[9] = rows[9].replace(',15', ',7,"15')
  message = load_error(write(tmp_path / 'shop', '\n'.join(rows)))
  assert 'row 9 (line 10 of the file) ends within a quotation' in message


def test_the_row_reader_limits_rows_and_detects_encodings(tmp_path):
  catalog = [dict(x) for x in ITEMS]
  catalog[5]['description'] = 'x' * 17 * 2**20
  folder = write(tmp_path / 'shop', None, quoted(catalog))
  assert 'a row of more than 16777216 bytes' in load_error(folder)
  # The limit applies to a whole row, even one of many lines.
  catalog[5]['description'] = 'x\n' * 9 * 2**20
  write(folder, None, quoted(catalog))
  assert 'a row of more than 16777216 bytes' in load_error(folder)
  # The limit does not apply to the whole file.
  catalog[4]['description'] = catalog[5]['description'] = 'x' * 9 * 2**20
  assert load(write(folder, None, quoted(catalog))).num_items == 12
  catalog[4]['description'] = ''
  # The limit counts characters, not bytes. Each ☃ has three bytes.
  for name in ('title', 'brand', 'description'):
    catalog[5][name] = '☃' * 4 * 2**20
  assert load(write(folder, None, quoted(catalog))).num_items == 12
  text = quoted(ITEMS).replace('Torch', 'Café').encode('latin-1')
  (folder / 'items.csv').write_bytes(text)
  assert 'items.csv, line 4 is not UTF-8' in load_error(folder)


def test_limits_the_length_of_the_column_names(tmp_path):
  names = 'user,item,timestamp,' + 'x' * 200_000
  text = '\n'.join([names, *(f'{x},1' for x in LOG_CSV.splitlines()[1:])])
  shop = load(write(tmp_path / 'shop', text))
  assert shop.num_interactions == len(LOG)
  text = text.replace('xx', 'x' * csv_table._SAMPLE_BYTES, 1)
  message = load_error(write(tmp_path / 'shop', text))
  assert 'line of column names has more than 1048576 bytes' in message


def archive():
  data = io.BytesIO()
  with zipfile.ZipFile(data, 'w') as file:
    file.writestr('xl/workbook.xml', '<x/>')
  return data.getvalue()


def as_parquet():
  data = io.BytesIO()
  parquet.write_table(pa.Table.from_pylist(LOG), data)
  return data.getvalue()


@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
@pytest.mark.parametrize(
  ('data', 'kind'),
  [
    (gzip.compress(LOG_CSV.encode()), 'compressed with gzip'),
    (archive(), 'a zip archive or an Excel workbook'),
    (b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1' + bytes(500), 'an Excel workbook'),
    (as_parquet(), 'a Parquet file'),
    (LOG_CSV.encode(), 'text'),
    (LOG_CSV.encode('utf-16'), 'text'),
    (small.as_jsonl(LOG).encode(), 'text'),
  ],
)
def test_refuses_a_file_with_the_wrong_suffix(tmp_path, suffix, data, kind):
  folder = write(tmp_path / 'shop')
  (folder / 'interactions.csv').unlink()
  path = folder / f'interactions.{suffix}'
  path.write_bytes(data)
  is_right = (kind == 'text') == (suffix != 'parquet')
  if kind == 'a Parquet file' and suffix == 'parquet':
    load(folder)
  elif kind != 'text' or not is_right:
    assert f'{path} is {kind}, not {suffix}: ' in load_error(folder)


def test_the_error_for_text_in_parquet_names_the_right_suffix(tmp_path):
  folder = write(tmp_path / 'shop')
  (folder / 'interactions.csv').unlink()
  path = folder / 'interactions.parquet'
  path.write_text(small.as_jsonl(LOG))
  assert 'rename it to interactions.jsonl' in load_error(folder)
  path.write_text(LOG_CSV)
  assert 'rename it to interactions.csv' in load_error(folder)


def test_reads_a_csv_file_that_begins_like_another_format(tmp_path):
  for word in ('BZh', 'ORC', 'PAR1', 'ARROW1'):
    text = '\n'.join(
      f'{word if i == 0 else i},{x}' for i, x in enumerate(LOG_CSV.splitlines())
    )
    assert load(write(tmp_path / 'shop', text)).num_interactions == len(LOG)


def write_jsonl(folder, log=LOG, catalog=ITEMS):
  folder.mkdir(exist_ok=True)
  for name, rows in (('interactions', log), ('items', catalog)):
    lines = [json.dumps(row) + '\n' for row in rows]
    (folder / f'{name}.jsonl').write_text(''.join(lines))
  return folder


def renamed(row, **names):
  return {names.get(key, key): value for key, value in row.items()}


def test_reads_records_with_different_column_names(tmp_path, plain):
  log = [
    renamed(x, user='user_id', item='asin') if i % 2 else x
    for i, x in enumerate(LOG)
  ]
  catalog = [
    renamed(x, categories='category') if i % 3 else x
    for i, x in enumerate(ITEMS)
  ]
  # The same value in two columns is not a conflict, and neither is None.
  log[0] = {**log[0], 'userId': log[0]['user'], 'asin': None}
  assert content(load(write_jsonl(tmp_path / 'shop', log, catalog))) == plain


@pytest.mark.parametrize('values', [('u0', 'other'), (1, '1'), (True, 1)])
def test_refuses_a_record_with_two_values_for_a_column(tmp_path, values):
  log = [renamed(x, user='user_id') if i % 2 else x for i, x in enumerate(LOG)]
  log[6] = {**log[6], 'user': values[0], 'user_id': values[1]}
  message = load_error(write_jsonl(tmp_path / 'shop', log))
  assert "columns 'user' and 'user_id', and either could be user" in message
  assert 'row 7 has a different value in each' in message


@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
def test_reports_a_column_that_is_not_read(tmp_path, suffix):
  folder = write(tmp_path / 'shop')
  (folder / 'items.csv').unlink()
  path = folder / f'items.{suffix}'
  rows = [dict(x, category='Other') for x in ITEMS]
  if suffix == 'csv':
    path.write_text(small.as_csv(rows))
  elif suffix == 'jsonl':
    path.write_text(small.as_jsonl(rows))
  else:
    parquet.write_table(pa.Table.from_pylist(rows), path)
  shop = load(folder)
  assert 'Other' not in shop.items.fields['categories']
  assert (
    f"items.{suffix}: column 'category' is not read, because there is a column "
    "'categories'"
  ) in counts.lines(shop.counts)[-1]


@pytest.mark.parametrize('suffix', ['jsonl', 'parquet'])
@pytest.mark.parametrize('first', [0.0, None])
def test_refuses_ids_that_pandas_turned_into_floats(tmp_path, suffix, first):
  users = {f'u{i}': float(i) for i in range(6)}
  log = [dict(x, user=users[x['user']]) for x in LOG]
  log[0]['user'] = first
  folder = write_jsonl(tmp_path / 'shop', log)
  if suffix == 'parquet':
    (folder / 'interactions.jsonl').unlink()
    path = folder / 'interactions.parquet'
    parquet.write_table(pa.Table.from_pylist(log), path)
  message = load_error(folder)
  assert f'row 1: user is {first}' in message
  assert 'pandas turns integers into floats' in message
  assert "astype('int64') on user" in message
