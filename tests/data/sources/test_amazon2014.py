import functools
import gzip
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest
import tensorflow_datasets as tfds

from tests.small import ROOT
from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts
from tiger_jax.data.sources import amazon2014, tfds_builder
from tiger_jax.errors import DataError

# Grouped by item, as in the official files; u2 is the first user to appear.
REVIEWS = [
  ('u2', 'A', 30), ('u1', 'A', 10), ('u2', 'B', 10), ('u1', 'B', 10),
  ('u1', 'C', 5), ('u2', 'D', 20), ('u3', 'D', 7), ('u3', 'A', 7),
  ('u3', 'C', 7),
]  # fmt: skip
METADATA = [
  "{'asin': 'Z', 'title': 'Never bought'}",
  json.dumps(
    {
      'asin': 'A',
      'title': 'Soap &amp; Water\n2 oz',
      'price': 12.0,
      'brand': 'B&#39;s',
      'categories': [['Beauty', 'Bath &amp; Body'], ['Home']],
      'description': 'Clean &lt;3',
      'related': {'also_bought': ['B']},
    }
  ),
  "{'asin': 'B', 'title': 'It\\'s', 'categories': [['Beauty']]}",
  "{'asin': 'C', 'price': 3.5, 'imUrl': 'http://example.com'}",
  "{'asin': 'D', 'title': 'Crème', 'brand': None}",
]


@pytest.fixture
def raw(tmp_path):
  folder = tmp_path / 'raw'
  folder.mkdir()
  write_reviews(folder, REVIEWS)
  write_metadata(folder, METADATA)
  return folder


def write_reviews(folder, reviews):
  keys = ('reviewerID', 'asin', 'unixReviewTime')
  lines = [
    json.dumps({**dict(zip(keys, review, strict=True)), 'overall': 5.0})
    for review in reviews
  ]
  write(folder / 'reviews_Beauty_5.json.gz', lines)


def write_metadata(folder, lines):
  write(folder / 'meta_Beauty.json.gz', lines)


def write(path, lines):
  path.write_bytes(gzip.compress('\n'.join(lines).encode()))


def load(raw, **flags):
  config = DatasetConfig(name='amazon2014/Beauty', source_dir=str(raw), **flags)
  return amazon2014.load('Beauty', config)


def load_error(raw):
  with pytest.raises(DataError) as error:
    load(raw)
  assert '\n' not in str(error.value)
  assert error.value.exit_code == 3
  return str(error.value)


def histories(dataset):
  """Returns the item ids in the history of each user."""
  return [
    ''.join(dataset.items.ids[row] for row in dataset.history_of(user))
    for user in range(dataset.num_users)
  ]


def test_reads_the_official_files(raw, capfd):
  dataset = load(raw)
  assert dataset.name == 'amazon2014/Beauty'
  assert dataset.user_ids == ('u2', 'u1', 'u3')
  # Items are sorted by hash. The hashes begin with 3f39, 559a, 6b23 and df7e.
  assert dataset.items.ids == ('D', 'A', 'C', 'B')
  assert histories(dataset) == ['BDA', 'CAB', 'DAC']
  assert dataset.timestamps.tolist() == [10, 20, 30, 5, 10, 10, 7, 7, 7]
  assert dataset.items.fields == {
    'title': ('Crème', 'Soap & Water 2 oz', '', "It's"),
    'price': ('', '12.00', '3.50', ''),
    'brand': ('', "B's", '', ''),
    'categories': ('', 'Beauty > Bath & Body; Home', '', 'Beauty'),
    'description': ('', 'Clean <3', '', ''),
  }
  assert capfd.readouterr().out == ''


def test_short_users_are_refused_or_dropped(raw):
  reviews = [('u0', 'E', 1), *REVIEWS, ('u4', 'C', 1), ('u4', 'B', 2)]
  write_reviews(raw, reviews)
  write_metadata(raw, [*METADATA, "{'asin': 'E', 'title': 'Only u0'}"])
  text = load_error(raw)
  assert "2 users with fewer than 3 events, such as 'u0' with 1" in text
  assert 'reviews_Beauty_5.json.gz' in text
  assert 'drop_short_users' in text
  dataset = load(raw, drop_short_users=True)
  assert dataset.user_ids == ('u2', 'u1', 'u3')
  assert sorted(dataset.items.ids) == ['A', 'B', 'C', 'D', 'E']
  assert histories(dataset)[0] == 'BDA'
  write_reviews(raw, reviews[:1])
  with pytest.raises(DataError, match='no user'):
    load(raw, drop_short_users=True)


def test_items_without_metadata_are_refused_or_kept(raw):
  write_metadata(raw, METADATA[:3])
  text = load_error(raw)
  assert 'names 2 items that' in text
  assert "such as 'C', 'D'" in text
  assert 'meta_Beauty.json.gz' in text
  assert 'allow_missing_metadata' in text
  dataset = load(raw, allow_missing_metadata=True)
  assert [dataset.items.title(dataset.items.rows[x]) for x in 'DC'] == [
    'D',
    'C',
  ]


@pytest.mark.parametrize('name', ['reviews_Beauty_5', 'meta_Beauty'])
@pytest.mark.parametrize('kind', ['missing', 'page', 'cut', 'line', 'field'])
def test_the_error_for_a_bad_file_names_the_file(raw, name, kind):
  path = raw / f'{name}.json.gz'
  content = path.read_bytes()
  if kind == 'missing':
    path.unlink()
  elif kind == 'page':
    path.write_bytes(b'<html>Not found</html>')
  elif kind == 'cut':
    path.write_bytes(content[:-4])
  elif kind == 'line':
    path.write_bytes(content + gzip.compress(b'\nnot a record'))
  else:
    path.write_bytes(content + gzip.compress(b'\n{"reviewerID": "u1"}'))
  assert str(path) in load_error(raw)


def test_a_file_without_reviews_is_refused(raw):
  write_reviews(raw, [])
  assert 'has no event that can be used' in load_error(raw)


@pytest.fixture
def site(raw):
  class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
      pass

  server = http.server.ThreadingHTTPServer(
    ('127.0.0.1', 0), functools.partial(Handler, directory=str(raw))
  )
  thread = threading.Thread(target=server.serve_forever, args=(0.02,))
  thread.start()
  yield f'http://127.0.0.1:{server.server_port}'
  server.shutdown()
  thread.join()
  server.server_close()


def test_a_download_is_kept(site, raw, tmp_path):
  first = amazon2014.read('Beauty', downloads=tmp_path, site=site)
  assert list(first.log.user_ids) == ['u2', 'u1', 'u3']
  assert first.files[1] == f'{site}/meta_Beauty.json.gz'
  (raw / 'meta_Beauty.json.gz').unlink()
  again = amazon2014.read('Beauty', downloads=tmp_path, site=site)
  assert again.texts == first.texts
  place = again.texts.ids.index('B')
  assert again.texts.fields['title'][place] == "It's"


def test_downloads_are_in_the_folder_of_tfds(raw, tmp_path, monkeypatch):
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path))
  folder = tmp_path / 'downloads' / 'tiger_jax_amazon2014'
  folder.parent.mkdir()
  raw.rename(folder)
  dataset = amazon2014.load('Beauty', DatasetConfig(name='amazon2014/Beauty'))
  assert histories(dataset) == ['BDA', 'CAB', 'DAC']


@pytest.mark.parametrize('name', ['meta_Beauty', 'reviews_Beauty_5'])
@pytest.mark.parametrize('kind', ['missing', 'page', 'cut'])
def test_a_damaged_download_is_replaced_by_the_next_run(
  site, raw, tmp_path, kind, name
):
  path = raw / f'{name}.json.gz'
  content = path.read_bytes()
  if kind == 'missing':
    path.unlink()
  else:
    path.write_bytes(
      content[:-9] if kind == 'cut' else b'<!DOCTYPE html> Moved'
    )
  with pytest.raises(DataError) as error:
    amazon2014.read('Beauty', downloads=tmp_path, site=site)
  text = str(error.value)
  assert '\n' not in text
  expected = {
    'missing': f'cannot download {site}/{name}.json.gz (HTTP 404',
    'page': 'is a web page, not gzip',
    'cut': 'is damaged',
  }
  assert expected[kind] in text
  assert ('the damaged download is removed' in text) == (kind != 'missing')
  # The next run does not read the damaged file again.
  path.write_bytes(content)
  again = amazon2014.read('Beauty', downloads=tmp_path, site=site)
  assert len(again.log.user_ids) == 3


def test_damaged_files_in_source_dir_are_not_removed(raw):
  path = raw / 'meta_Beauty.json.gz'
  path.write_bytes(path.read_bytes()[:-9])
  assert 'removed' not in load_error(raw)
  assert path.exists()


def test_counts_include_drops_and_text_fields(raw):
  write_reviews(raw, [*REVIEWS, *REVIEWS[:2], ('u4', 'C', 1)])
  lines = [
    *METADATA,
    "{'asin': 'B', 'title': 'The same again', 'description': ['One.', 'Two.'],"
    " 'price': 'from 3.00', 'brand': {'x': 1}}",
  ]
  write_metadata(raw, lines)
  dataset = load(raw, drop_short_users=True)
  assert dataset.items.title(dataset.items.rows['B']) == 'The same again'
  assert counts.lines(dataset.counts) == [
    'events: 12 read, 9 used; dropped: 2 exact repeats, 1 of users with fewer '
    'than 3 events',
    'users: 4 read, 3 used; dropped: 1 with fewer than 3 events',
    'items: 6 read, 4 used; 1 were repeated, and the last copy is kept',
    'text: empty: title 1, price 2, brand 3, categories 3, description 3; '
    "joined from lists: description 1; not a number: price 1 ('from 3.00'); "
    'unusable: brand 1 (meta_Beauty.json.gz, line 6: a record)',
  ]
  kept = load(raw, drop_short_users=True, keep_repeats=True)
  assert kept.num_interactions == 11


def test_low_and_missing_ratings_are_dropped(raw):
  path = raw / 'reviews_Beauty_5.json.gz'
  lines = gzip.decompress(path.read_bytes()).decode().splitlines()
  # The event of u2 with item D, and those of u1.
  for i, rating in ((5, '3.5'), (1, '2'), (3, 'null'), (4, 'null')):
    assert '5.0' in lines[i]
    lines[i] = lines[i].replace('5.0', rating)
  write(path, [*lines, lines[5].replace('3.5', '4')])
  dataset = load(raw, min_rating=4.0, drop_short_users=True)
  assert dataset.counts['events'] == {
    'read': 10,
    'used': 6,
    'dropped': {'without a rating': 2, 'rated below 4': 2},
  }
  assert dataset.user_ids == ('u2', 'u3')


_EXPORT = """
import sys
from tests.small import ROOT
from tiger_jax.config import DatasetConfig
from tiger_jax.data import loading
source, folder = sys.argv[1:]
config = DatasetConfig(
  'amazon2014/Beauty', source_dir=source, allow_missing_metadata=True
)
loading.load_dataset(config, 0)
assert 'tensorflow_datasets' not in sys.modules
from tiger_jax.data.sources.tfds_builder import Amazon2014
builder = Amazon2014(config='Beauty', source_dir=source, data_dir=folder)
builder.download_and_prepare()
assert 'tensorflow' not in sys.modules
"""


def test_the_tfds_dataset_has_the_content_of_the_files(raw, tmp_path):
  """The export does not import TensorFlow, and reading does not import TFDS."""
  write_metadata(raw, METADATA[:3])
  temporary, folder = tmp_path / 'temporary', tmp_path / 'tfds'
  temporary.mkdir()
  done = subprocess.run(
    [sys.executable, '-c', _EXPORT, str(raw), str(folder)],
    env=os.environ | {'TMPDIR': str(temporary)},
    capture_output=True,
    text=True,
    cwd=ROOT,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert list(temporary.iterdir()) == []
  builder = tfds_builder.Amazon2014(config='Beauty', data_dir=str(folder))
  users, items = (
    sorted(builder.as_data_source(split=split), key=lambda x: x['row'])
    for split in ('users', 'items')
  )
  ids = [item['id'].decode() for item in items]
  assert [
    (user['id'], [ids[row] for row in user['items']], list(user['timestamps']))
    for user in users
  ] == [
    (b'u2', ['B', 'D', 'A'], [10, 20, 30]),
    (b'u1', ['C', 'A', 'B'], [5, 10, 10]),
    (b'u3', ['D', 'A', 'C'], [7, 7, 7]),
  ]
  # Items are in the order of their first reviews. C and D have no metadata.
  assert [(x['id'], x['has_metadata'], x['title']) for x in items] == [
    (b'A', True, b'Soap & Water 2 oz'),
    (b'B', True, b"It's"),
    (b'C', False, b''),
    (b'D', False, b''),
  ]


@pytest.mark.whole_runs
@pytest.mark.parametrize(
  ('folder', 'category', 'sizes'),
  [
    ('amazon2014_beauty', 'Beauty', (22_363, 12_101, 198_502)),
    pytest.param(
      'amazon2014_sports',
      'Sports_and_Outdoors',
      (35_598, 18_357, 296_337),
      marks=pytest.mark.slow,
    ),
  ],
)
def test_histories_equal_the_published_sequences(
  data_root, folder, category, sizes
):
  """The histories equal those of S3-Rec, and `sizes` are from its paper."""
  source = data_root / folder
  config = DatasetConfig(name=f'amazon2014/{category}', source_dir=str(source))
  dataset = amazon2014.load(category, config)
  assert sizes == (
    dataset.num_users,
    dataset.num_items,
    dataset.num_interactions,
  )
  assert dataset.counts['events']['dropped'] == {}
  lines = (source / 'sequences_s3rec.txt').read_text().splitlines()
  expected = [[int(x) - 1 for x in line.split()[1:]] for line in lines]
  # S3-Rec numbers the items in the order of first appearance.
  numbers: dict[int, int] = {}
  assert expected == [
    [numbers.setdefault(x, len(numbers)) for x in dataset.history_of(user)]
    for user in range(sizes[0])
  ]


def test_bad_rows_are_counted(raw):
  path = raw / 'reviews_Beauty_5.json.gz'
  bad = b'\nnot a record\n{"reviewerID": "u1", "asin": "A"}\n[1]\n{"asin": 1}'
  path.write_bytes(path.read_bytes() + gzip.compress(bad))
  assert 'line 10 is not a record' in load_error(raw)
  expected = histories(load(raw, max_bad_share=0.4))
  assert expected == ['BDA', 'CAB', 'DAC']
  rows = load(raw, max_bad_share=0.4).counts['rows']
  assert rows['items'] == {'read': 5, 'kept': 5, 'dropped': {}}
  events = rows['interactions']
  assert (events['read'], events['kept']) == (13, 9)
  assert [x['rows'] for x in events['dropped'].values()] == [2, 1, 1]
  with pytest.raises(DataError, match='4 of 13 rows are bad'):
    load(raw, max_bad_share=0.3)
