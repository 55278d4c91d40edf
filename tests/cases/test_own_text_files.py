"""Tests of the text files that spreadsheets, shops and researchers write."""

import json

import pyarrow as pa
from pyarrow import parquet
import pytest

from tests import small, typed
from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts
from tiger_jax.data.files import raw_lines
from tiger_jax.data.sources import own_files
from tiger_jax.errors import DataError

ITEMS = small.items(12)
LOG = small.events(ITEMS, num_users=6)
SNOWMAN = [dict(x, title=f'{x["title"]} ☃') for x in ITEMS]


def load(folder):
  config = DatasetConfig(name='files', source_dir=str(folder))
  return own_files.load(config)


def load_error(folder):
  """Returns the message of the error that loading a shop raises."""
  with pytest.raises(DataError) as caught:
    load(folder)
  message = str(caught.value)
  assert '\n' not in message
  assert len(message) < 500
  return message


def content(dataset):
  return (
    dataset.user_ids,
    dataset.items.ids,
    dataset.items.fields,
    dataset.history.tolist(),
    dataset.timestamps.tolist(),
  )


def write(folder, log=None, catalog=None, encoding='utf-8'):
  """Writes the two files of a shop. The default texts are LOG and ITEMS."""
  folder.mkdir(exist_ok=True)
  for name, text, rows in (
    ('interactions', log, LOG),
    ('items', catalog, ITEMS),
  ):
    text = small.as_csv(rows) if text is None else text
    (folder / f'{name}.csv').write_bytes(text.encode(encoding))
  return folder


@pytest.fixture
def plain(tmp_path):
  """The content of the shop in plain CSV files."""
  return content(load(write(tmp_path / 'plain')))


@pytest.mark.parametrize(
  ('separator', 'name'), [(';', '";"'), ('\t', 'a tab'), ('|', '"|"')]
)
def test_detects_and_prints_separators(tmp_path, plain, separator, name):
  catalog = [dict(x, description=f'{x["description"]} a, b') for x in ITEMS]
  shop = load(
    write(
      tmp_path / 'shop',
      small.as_csv(LOG, delimiter=separator),
      small.as_csv(catalog, delimiter=separator),
    )
  )
  assert shop.items.fields['description'][0].endswith(' a, b')
  assert shop.items.ids == plain[1]
  lines = counts.lines(shop.counts)
  assert f'interactions.csv: separated by {name}' in lines[-1]
  assert f'items.csv: separated by {name}' in lines[-1]


def test_skips_the_sep_line_for_excel(tmp_path, plain):
  log = 'sep=;\r\n' + small.as_csv(LOG, delimiter=';', lineterminator='\r\n')
  assert content(load(write(tmp_path / 'shop', log))) == plain


def test_ignores_spaces_around_commas(tmp_path, plain):
  shop = load(write(tmp_path / 'shop', small.as_csv(LOG).replace(',', ' , ')))
  assert content(shop) == plain


def test_ignores_case_quotes_and_spaces_in_column_names(tmp_path, plain):
  log = small.as_csv(LOG).replace(
    'user,item,timestamp', ' "User ID";ITEM-Id ; Timestamp'.replace(';', ',')
  )
  catalog = small.as_csv(ITEMS).replace('item,title', 'ITEM,Title')
  assert content(load(write(tmp_path / 'shop', log, catalog))) == plain


@pytest.mark.parametrize(
  'names',
  [
    'user_id,item_id,time', 'userId,movieId,timestamp',
    'reviewerID,asin,unixReviewTime', 'customer_id,article_id,t_dat',
    'user_id:token,item_id:token,timestamp:float', 'USER_ID,ITEM_ID,TIMESTAMP',
    'uid,iid,ts', 'user_id,video_id,time_ms', 'visitorid,itemid,datetime',
    'session_id,product_id,date',
  ],
)  # fmt: skip
def test_recognizes_common_column_names(tmp_path, plain, names):
  log = small.as_csv(LOG).replace('user,item,timestamp', names)
  catalog = small.as_csv(ITEMS).replace('item,title', 'item_id,Name')
  assert content(load(write(tmp_path / 'shop', log, catalog))) == plain


@pytest.mark.parametrize('suffix', ['jsonl', 'parquet'])
def test_recognizes_common_column_names_in_other_formats(
  tmp_path, plain, suffix
):
  log = [
    {'Rating': 5, 'user_id': x['user'], 'parent_asin': x['item'],
     'Time': x['timestamp']} for x in LOG
  ]  # fmt: skip
  catalog = [
    {('Name' if k == 'title' else k.upper()): v for k, v in x.items()}
    for x in ITEMS
  ]
  for name, rows in (('interactions', log), ('items', catalog)):
    path = tmp_path / f'{name}.{suffix}'
    if suffix == 'jsonl':
      path.write_text(small.as_jsonl(rows))
    else:
      parquet.write_table(pa.Table.from_pylist(rows), path)
  assert content(load(tmp_path)) == plain


@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
def test_refuses_two_columns_that_could_both_be_the_item(tmp_path, suffix):
  folder = write(tmp_path / 'shop')
  path = folder / f'interactions.{suffix}'
  (folder / 'interactions.csv').unlink()
  rows = [
    {'user': x['user'], 'asin': 'B' + x['item'], 'parent_asin': x['item'],
     'timestamp': x['timestamp']} for x in LOG
  ]  # fmt: skip

  def save():
    if suffix == 'csv':
      path.write_text(small.as_csv(rows))
    elif suffix == 'jsonl':
      path.write_text(small.as_jsonl(rows))
    else:
      parquet.write_table(pa.Table.from_pylist(rows), path)

  save()
  message = load_error(folder)
  assert f"{path} has columns 'asin' and 'parent_asin'" in message
  # A column with the exact name has priority.
  rows = [{**x, 'item': x['parent_asin']} for x in rows]
  save()
  assert load(folder).items.ids[0] in {x['item'] for x in ITEMS}


@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
def test_the_error_for_a_missing_column_lists_all_columns(tmp_path, suffix):
  folder = write(tmp_path / 'shop')
  (folder / 'interactions.csv').unlink()
  path = folder / f'interactions.{suffix}'
  rows = [{'buyer': x['user'], 'thing\x1b': 1, 'time': 2} for x in LOG]
  if suffix == 'csv':
    path.write_text(small.as_csv(rows))
  elif suffix == 'jsonl':
    path.write_text(small.as_jsonl(rows))
  else:
    parquet.write_table(pa.Table.from_pylist(rows), path)
  message = load_error(folder)
  assert f'{path} has no column user' in message
  assert "'buyer', 'thing\\x1b'" in message


def test_the_error_for_missing_column_names_shows_the_first_row(tmp_path):
  text = small.as_csv(LOG).partition('\n')[2]
  message = load_error(write(tmp_path / 'shop', text))
  assert "its columns are 'u0', " in message
  assert 'add a first line that names the columns' in message


def test_reads_a_byte_order_mark_and_quoted_line_breaks(tmp_path):
  catalog = [
    dict(x, description='Warm,\r\n"really" warm;\n\nold | new') for x in ITEMS
  ]
  shop = load(
    write(
      tmp_path / 'shop',
      small.as_csv(LOG, lineterminator='\r\n'),
      small.as_csv(catalog, lineterminator='\r\n'),
      encoding='utf-8-sig',
    )
  )
  description = shop.items.fields['description'][0]
  assert description == 'Warm, "really" warm; old | new'


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-16-be'])
def test_reads_utf16(tmp_path, encoding):
  mark = '\ufeff' if encoding == 'utf-16-be' else ''
  shop = load(
    write(
      tmp_path / 'shop',
      mark + small.as_csv(LOG),
      mark + small.as_csv(SNOWMAN),
      encoding,
    )
  )
  assert shop.items.fields['title'][0].endswith('☃')
  assert 'interactions.csv: read as UTF-16' in counts.lines(shop.counts)[-1]


@pytest.mark.parametrize(
  ('encoding', 'mark', 'command'),
  [
    ('utf-16-le', '', 'iconv -f UTF-16LE -t UTF-8 items.csv > items.utf8.csv'),
    ('utf-16-be', '', 'iconv -f UTF-16BE -t UTF-8 items.csv > items.utf8.csv'),
    ('utf-32', '', 'iconv -f UTF-32 -t UTF-8 items.csv > items.utf8.csv'),
    ('latin-1', '', 'iconv -f LATIN1 -t UTF-8 items.csv > items.utf8.csv'),
  ],
)
def test_the_error_for_an_unsupported_encoding_has_a_conversion_command(
  tmp_path, encoding, mark, command
):
  folder = write(tmp_path / 'shop')
  catalog = small.as_csv(ITEMS).replace('Torch', 'Fackel für Café')
  (folder / 'items.csv').write_bytes((mark + catalog).encode(encoding))
  message = load_error(folder)
  assert command in message
  if encoding == 'latin-1':
    # Line 1 has the column names, so the third item is in line 4.
    assert 'items.csv, line 4 is' in message


def test_refuses_truncated_utf16(tmp_path):
  folder = write(tmp_path / 'shop', encoding='utf-16')
  path = folder / 'items.csv'
  path.write_bytes(path.read_bytes()[:-1])
  assert f'{path} is damaged' in load_error(folder)


@pytest.mark.parametrize('encoding', ['utf-16-le', 'utf-16-be'])
def test_reads_json_lines_in_utf16(tmp_path, encoding):
  folder = write(tmp_path / 'shop')
  (folder / 'items.csv').unlink()
  path = folder / 'items.jsonl'
  text = small.as_jsonl(SNOWMAN).replace('\\u2603', '☃\u2028')
  path.write_text('\ufeff' + text, encoding=encoding)
  shop = load(folder)
  assert shop.items.fields['title'][0].endswith('☃')
  assert 'items.jsonl: read as UTF-16' in counts.lines(shop.counts)[-1]
  path.write_bytes(path.read_bytes()[:-1])
  assert f'{path} is damaged: it begins as UTF-16' in load_error(folder)
  path.write_text(text, encoding=encoding)
  name = {'utf-16-le': 'UTF-16LE', 'utf-16-be': 'UTF-16BE'}[encoding]
  assert f'iconv -f {name} -t UTF-8 items.jsonl' in load_error(folder)


def test_reads_a_row_of_three_megabytes(tmp_path):
  catalog = [dict(x) for x in ITEMS]
  catalog[5]['description'] = 'warm wool, ' * (3_000_000 // 11)
  for format_row in (small.as_csv, small.as_jsonl):
    shop = tmp_path / format_row.__name__
    write(shop)
    (shop / 'items.csv').unlink()
    suffix = 'csv' if format_row is small.as_csv else 'jsonl'
    (shop / f'items.{suffix}').write_text(format_row(catalog))
    dataset = load(shop)
    row = dataset.items.rows['A005']
    assert len(dataset.items.fields['description'][row]) > 2_900_000


def test_the_error_for_a_long_row_names_the_limit(tmp_path):
  catalog = [dict(x) for x in ITEMS]
  for size in (17, 50):
    catalog[5]['description'] = 'x' * size * 2**20
    folder = write(tmp_path / 'shop', None, small.as_csv(catalog))
    message = load_error(folder)
    assert 'a row of more than 16777216 bytes (16 MB)' in message
    assert str(folder / 'items.csv') in message


def test_refuses_a_quotation_that_is_not_closed(tmp_path):
  """Without an error, the rest of the file would become one cell."""
  folder = write(tmp_path / 'shop')
  rows = small.as_csv(LOG).splitlines()
  rows[5] = rows[5].replace(',15', ',"15')
  (folder / 'interactions.csv').write_text('\n'.join(rows))
  assert 'ends within a quotation' in load_error(folder)
  # An unclosed quotation in a column that is not read is an error too.
  rows = small.as_csv([dict(x, stars='5') for x in LOG]).splitlines()
  rows[5] = rows[5].replace(',5', ',"5')
  (folder / 'interactions.csv').write_text('\n'.join(rows) + '\n')
  assert 'ends within a quotation' in load_error(folder)
  # An inch mark within a cell does not begin a quotation.
  catalog = small.as_csv(ITEMS).replace('Torch 2', '5" Torch 2')
  assert load(write(folder, None, catalog)).num_items == 12


def test_refuses_a_file_with_only_column_names(tmp_path):
  assert 'is empty' in load_error(
    write(tmp_path / 'shop', 'user,item,timestamp')
  )
  assert 'is empty' in load_error(write(tmp_path / 'shop', '\n\n'))


def test_refuses_a_python_literal_that_is_too_long(tmp_path):
  path = tmp_path / 'x.jsonl'
  literal = """{'a': "it's", 'b': '""".ljust(2**19 - 2, 'x') + "'}"
  path.write_text(literal)
  assert len(list(raw_lines.read(path))) == 1
  path.write_text(literal + '\n' + literal.replace('xx', 'xxx', 1))
  with pytest.raises(DataError, match='line 2 is not a record: it is not JSON'):
    list(raw_lines.read(path))
  path.write_text(json.dumps({'a': 'x' * 2**20}))
  assert len(list(raw_lines.read(path))) == 1


def test_the_conversion_command_in_the_error_works(tmp_path):
  folder = write(tmp_path / 'shop')
  catalog = small.as_csv(ITEMS).replace('Torch', 'Café')
  (folder / 'items.csv').write_bytes(catalog.encode('latin-1'))
  flags = (
    '--mode=data', *small.FLAGS, f'--config.dataset.source_dir={folder}',
    f'--workdir={tmp_path / "run"}',
  )  # fmt: skip
  done = typed.run(*flags, cwd=tmp_path)
  assert done.code == 3
  command = done.refusal.partition('for example with: ')[2].split(';')[0]
  done = typed.shell(
    f'cd {folder} && {command} && mv items.utf8.csv items.csv', cwd=tmp_path
  )
  assert done.code == 0, done.err
  assert 'Café' in ' '.join(load(folder).items.fields['title'])
