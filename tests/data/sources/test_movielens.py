import functools
import http.server
import io
import threading
import zipfile

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import tensorflow_datasets as tfds

from tests.data.sources import described
from tiger_jax.config import DatasetConfig
from tiger_jax.data import loading
from tiger_jax.data.files import raw_lines
from tiger_jax.data.sources import movielens
from tiger_jax.errors import DataError

# The user, the movie, the rating and the time. User 6040 rates out of order.
RATINGS = [
  ('1', '1193', '5', '978300760'), ('1', '661', '3', '978302109'),
  ('1', '914', '3', '978301968'), ('6040', '661', '4', '956704887'),
  ('6040', '1193', '1', '956704746'), ('6040', '1', '5', '956704746'),
]  # fmt: skip
MOVIES = [
  ('1', 'Toy Story (1995)', "Animation|Children's|Comedy"),
  ('661', 'James and the Giant Peach (1996)', "Animation|Children's"),
  ('914', 'Misérables, Les (1995)', 'Drama'),
  ('1193', "One Flew Over the Cuckoo's Nest (1975)", 'Drama'),
  ('3952', 'Contender, The (2000)', 'Drama|Thriller'),
]
HISTORIES = {'1': ['1193', '914', '661'], '6040': ['1193', '1', '661']}


def dat(rows):
  return ''.join('::'.join(row) + '\n' for row in rows).encode('latin-1')


def csv(header, rows):
  lines = [header, *(','.join(row) for row in rows)]
  return ''.join(line + '\r\n' for line in lines).encode()


FILES_1M = {
  'ml-1m/ratings.dat': dat(RATINGS),
  'ml-1m/movies.dat': dat(MOVIES),
  'ml-1m/README': b'Do not read',
}
FILES_20M = {
  'ml-20m/ratings.csv': csv('userId,movieId,rating,timestamp', RATINGS),
  'ml-20m/movies.csv': csv(
    'movieId,title,genres',
    [
      (i, f'"{title}"' if ',' in title else title, genres)
      for i, title, genres in [
        *MOVIES[:-1], ('3952', 'The ""C"", Vol. 1', '(no genres listed)'),
      ]
    ],
  ),
}  # fmt: skip


def write_folder(folder, files):
  for name, content in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def write_zip(path, files):
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, content in files.items():
      archive.writestr(name, content)


def load(folder, size='1m', **flags):
  config = DatasetConfig(
    name=f'movielens/{size}', source_dir=str(folder), **flags
  )
  return loading.load_dataset(config, 0)


def load_error(folder, size='1m', **flags):
  with pytest.raises(DataError) as error:
    load(folder, size, **flags)
  assert '\n' not in str(error.value)
  return str(error.value)


def check_1m(dataset):
  assert dataset.name == 'movielens/1m'
  assert described.histories(dataset) == HISTORIES
  assert described.texts(dataset) == {
    '1': {
      'title': 'Toy Story (1995)',
      'categories': "Animation; Children's; Comedy",
    },
    '661': {
      'title': 'James and the Giant Peach (1996)',
      'categories': "Animation; Children's",
    },
    '914': {'title': 'Misérables, Les (1995)', 'categories': 'Drama'},
    '1193': {
      'title': "One Flew Over the Cuckoo's Nest (1975)",
      'categories': 'Drama',
    },
    '3952': {'title': 'Contender, The (2000)', 'categories': 'Drama; Thriller'},
  }
  assert dataset.timestamps.tolist() == [
    978300760, 978301968, 978302109, 956704746, 956704746, 956704887,
  ]  # fmt: skip


def test_1m_is_read_from_the_archive(tmp_path):
  write_zip(tmp_path / 'ml-1m.zip', FILES_1M)
  dataset = load(tmp_path)
  check_1m(dataset)
  assert dataset.counts['events'] == {'read': 6, 'used': 6, 'dropped': {}}
  assert dataset.counts['rows'] == {
    'interactions': {'read': 6, 'kept': 6, 'dropped': {}},
    'items': {'read': 5, 'kept': 5, 'dropped': {}},
  }


@pytest.mark.parametrize('inside', [False, True])
def test_1m_is_read_from_the_extracted_folder(tmp_path, inside):
  write_folder(tmp_path, FILES_1M)
  # A damaged archive beside the files is not read.
  (tmp_path / 'ml-1m.zip').write_bytes(b'PK')
  check_1m(load(tmp_path / 'ml-1m' if inside else tmp_path))


def test_20m_has_a_header_and_quotation_marks(tmp_path):
  write_zip(tmp_path / 'ml-20m.zip', FILES_20M)
  dataset = load(tmp_path, '20m')
  assert described.histories(dataset) == HISTORIES
  texts = described.texts(dataset)
  assert texts['914'] == {
    'title': 'Misérables, Les (1995)', 'categories': 'Drama',
  }  # fmt: skip
  assert texts['3952'] == {'title': 'The "C", Vol. 1'}


def test_ratings_are_read_if_they_are_needed(tmp_path):
  write_folder(tmp_path, FILES_1M)
  dataset = load(tmp_path, min_rating=3, drop_short_users=True)
  assert described.histories(dataset) == {'1': HISTORIES['1']}
  assert dataset.counts['events']['dropped']['rated below 3'] == 1


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    ('1::2::5', 'number of cells is 3: it must be 4: userId, movieId'),
    ('1::2::5::1::1', 'number of cells is 5'),
    ('1::2::5::soon', "timestamp is 'soon': it must be a number or an ISO"),
    ('1::2::5::1_0', "timestamp is '1_0'"),
    ('1::2::5::978300760000', "timestamp is '978300760000': most times"),
    ('1::2::5::nan', "timestamp is 'nan'"),
    ('1::2::5::1e300', "timestamp is '1e300'"),
    ('1::2::five::1', "rating is 'five': it must be a number"),
    ('1::2::inf::1', "rating is 'inf'"),
    ('::2::5::1', 'user is None: it must be text or an integer'),
    ('1::\x85::5::1', "item is '\\x85'"),
  ],
)
def test_bad_rows_are_refused_or_counted(tmp_path, row, message):
  content = FILES_1M['ml-1m/ratings.dat'] + row.encode('latin-1')
  write_folder(tmp_path, FILES_1M | {'ml-1m/ratings.dat': content})
  place = f'{tmp_path}/ml-1m/ratings.dat, line 7: '
  text = load_error(tmp_path, min_rating=0.5)
  assert text.startswith(place + message)
  assert 'config.dataset.max_bad_share' in text
  dataset = load(tmp_path, min_rating=0.5, max_bad_share=0.15)
  assert described.histories(dataset) == HISTORIES
  rows = dataset.counts['rows']['interactions']
  assert (rows['read'], rows['kept']) == (7, 6)
  (entry,) = rows['dropped'].values()
  assert entry['rows'] == 1
  assert entry['samples'][0].startswith(place.rpartition('/')[2])
  text = load_error(tmp_path, min_rating=0.5, max_bad_share=0.14)
  assert '1 of 7 rows are bad' in text


def test_text_that_is_not_utf8_is_refused(tmp_path):
  content = FILES_20M['ml-20m/movies.csv'] + b'7,Am\xe9lie,Drama\n'
  write_folder(tmp_path, FILES_20M | {'ml-20m/movies.csv': content})
  assert 'movies.csv, line 7 is not utf-8' in load_error(tmp_path, '20m')
  assert load(tmp_path, '20m', max_bad_share=0.2).num_items == 5


@pytest.mark.parametrize('name', ['ratings.csv', 'movies.csv'])
def test_another_header_is_refused(tmp_path, name):
  files = FILES_20M | {f'ml-20m/{name}': b'user,item\n1,2\n'}
  write_folder(tmp_path, files)
  assert f'ml-20m/{name} begins with [' in load_error(tmp_path, '20m')


def test_missing_files_are_named_with_their_address(tmp_path):
  text = load_error(tmp_path)
  assert text == (
    f'{tmp_path} has no ratings.dat or ml-1m.zip: get it from https://files.'
    'grouplens.org/datasets/movielens/ml-1m.zip and put it there'
  )
  write_folder(tmp_path, {'movies.dat': b''})
  assert 'has no ratings.dat or' in load_error(tmp_path)
  write_folder(tmp_path, {'ratings.dat': b''})
  assert 'ratings.dat has no event that can be used' in load_error(tmp_path)
  assert f'no folder {tmp_path}/x' in load_error(tmp_path / 'x')


_EVENTS = st.lists(
  st.tuples(st.sampled_from('123'), st.sampled_from('45'), st.integers(0, 9)),
  min_size=1,
)


@settings(max_examples=30, deadline=None)
@given(events=_EVENTS)
def test_histories_equal_a_sort_in_python(events, tmp_path_factory):
  # A rating for each user and movie makes every history long enough.
  events += [(user, movie, 9) for user in '123' for movie in '456']
  folder = tmp_path_factory.mktemp('ml')
  rows = [(user, movie, '5', str(time)) for user, movie, time in events]
  files = {
    'ratings.dat': dat(rows),
    'movies.dat': dat([(x, x, x) for x in '456']),
  }
  write_folder(folder, files)
  dataset = load(folder, keep_repeats=True)
  ordered = sorted(events, key=lambda event: event[2])  # The sort is stable.
  assert described.histories(dataset) == {
    user: [movie for x, movie, _ in ordered if x == user] for user in '123'
  }


_LINE = st.one_of(
  st.binary(max_size=20),
  st.lists(st.sampled_from(['1', '""', '"', ',', '"a,b"', ' ', '9' * 400])).map(
    lambda cells: ','.join(cells).encode()
  ),
)


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(_LINE))
@pytest.mark.parametrize('name', ['ratings.csv', 'movies.csv'])
def test_every_line_of_any_bytes_is_counted(lines, name, tmp_path_factory):
  folder = tmp_path_factory.mktemp('ml')
  content = FILES_20M[f'ml-20m/{name}'] + b'\n'.join(lines) + b'\n'
  write_folder(folder, FILES_20M | {f'ml-20m/{name}': content})
  dataset = load(
    folder / 'ml-20m', '20m', max_bad_share=1, drop_short_users=True,
    min_rating=0.5, allow_missing_metadata=True,
  )  # fmt: skip
  which = 'interactions' if name == 'ratings.csv' else 'items'
  rows = dataset.counts['rows'][which]
  num_lines = sum(
    bool(line.decode('utf-8', 'replace').strip())
    for line in content.split(b'\n')
  )
  assert rows['read'] == num_lines - 1  # The first line is the header.
  dropped = sum(x['rows'] for x in rows['dropped'].values())
  assert rows['kept'] + dropped == rows['read']


def test_a_cell_of_csv_may_be_too_long(tmp_path):
  content = FILES_20M['ml-20m/movies.csv'] + b'9,"' + b'a' * 200_000 + b'",\n'
  write_folder(tmp_path, FILES_20M | {'ml-20m/movies.csv': content})
  assert 'line 7: number of cells is 0' in load_error(tmp_path, '20m')


def test_a_line_may_be_too_long(tmp_path, monkeypatch):
  monkeypatch.setattr(raw_lines, 'MAX_LINE_BYTES', 2**20)
  for size, message in ((2**20, 'number of cells'), (2**21, 'longer than')):
    content = FILES_1M['ml-1m/ratings.dat'] + b'1' * size
    write_folder(tmp_path, FILES_1M | {'ml-1m/ratings.dat': content})
    assert 'ratings.dat, line 7' in load_error(tmp_path)
    assert message in load_error(tmp_path)


@pytest.fixture
def site(tmp_path, monkeypatch):
  folder = tmp_path / 'site'
  folder.mkdir()

  class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
      pass

  server = http.server.ThreadingHTTPServer(
    ('127.0.0.1', 0), functools.partial(Handler, directory=str(folder))
  )
  thread = threading.Thread(target=server.serve_forever, args=(0.02,))
  thread.start()
  address = f'http://127.0.0.1:{server.server_port}'
  monkeypatch.setattr(movielens, '_SITE', address)
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path))
  yield folder
  server.shutdown()
  thread.join()
  server.server_close()


def test_a_damaged_download_is_removed_and_a_good_one_is_kept(site, tmp_path):
  content = io.BytesIO()
  write_zip(content, FILES_1M)
  path = site / 'ml-1m.zip'
  path.write_bytes(content.getvalue()[:-30])
  with pytest.raises(DataError, match='the damaged download is removed'):
    load('')
  downloaded = tmp_path / 'downloads' / 'tiger_jax_movielens' / 'ml-1m.zip'
  assert not downloaded.exists()
  path.write_bytes(content.getvalue())
  check_1m(load(''))
  path.unlink()
  check_1m(load(''))
  assert downloaded.exists()


def test_a_download_with_a_bad_row_is_kept(site, tmp_path):
  content = FILES_1M['ml-1m/ratings.dat'] + b'1::2\n'
  write_zip(site / 'ml-1m.zip', FILES_1M | {'ml-1m/ratings.dat': content})
  assert 'line 7: number of cells is 2' in load_error('')
  (site / 'ml-1m.zip').unlink()
  check_1m(load('', max_bad_share=0.2))
