import gzip
import io
import json
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from tests.data.sources import described
from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts, loading
from tiger_jax.data.sources import download
from tiger_jax.errors import DataError

_TIME_2018 = '01 1, 2018'


def _review_2018(user, item, seconds, stars=5.0):
  return {
    'overall': stars,
    'verified': True,
    'reviewTime': _TIME_2018,
    'reviewerID': user,
    'asin': item,
    'style': {'Size:': ' 4 oz'},
    'reviewerName': 'A',
    'reviewText': 'Good',
    'summary': 'Good',
    'unixReviewTime': seconds,
  }


def _review_2023(user, item, milliseconds, stars=4.0):
  return {
    'rating': stars,
    'title': 'Good',
    'text': 'Good',
    'images': [],
    'asin': f'{item}-red',
    'parent_asin': item,
    'user_id': user,
    'timestamp': milliseconds,
    'helpful_vote': 0,
    'verified_purchase': True,
  }


def _review_yelp(user, item, date, stars=4.0):
  return {
    'review_id': 'KU_O5udG6zpxOg-VcAEodg',
    'user_id': user,
    'business_id': item,
    'stars': stars,
    'useful': 0,
    'funny': 0,
    'cool': 0,
    'text': 'Good',
    'date': date,
  }


class _Literal(dict):
  """A record that is written as a literal of Python 2."""


def _u(value):
  if isinstance(value, str):
    return 'u' + ascii(value)
  if isinstance(value, list):
    return f'[{", ".join(map(_u, value))}]'
  if isinstance(value, dict):
    cells = (f'{_u(key)}: {_u(x)}' for key, x in value.items())
    return '{' + ', '.join(cells) + '}'
  return repr(value)


def _review_steam(user, item, date):
  return _Literal(
    username=user, hours=0.5, products=41, product_id=item, page_order=0,
    date=date, text='Good \u2764', early_access=False, page=1,
  )  # fmt: skip


AMAZON_2018 = {
  'Gift_Cards_5.json.gz': [
    _review_2018('U1', 'A', 300), _review_2018('U2', 'A', 100, 1.0),
    _review_2018('U1', 'B', 200), _review_2018('U2', 'B', 100),
    _review_2018('U1', 'C', 100), _review_2018('U2', 'C', 50),
  ],
  'meta_Gift_Cards.json.gz': [
    {'asin': 'Z', 'title': 'Never bought', 'price': '$1.00'},
    {
      'category': ['Gift Cards', 'Gift Card &amp; Box'],
      'tech1': '',
      'description': ['For &lt;you&gt;.', 'Or me.'],
      'title': 'Card &amp; Box',
      'also_buy': ['B'],
      'brand': 'by\n    Ann',
      'rank': [],
      'price': '$1,012.99',
      'asin': 'A',
    },
    {
      'category': [],
      'description': [],
      'title': 'var aPageStart = (new Date()).getTime();\nvar x;',
      'brand': '',
      'price': '.a-box-inner{background-color:#fff}#alohaBuyBoxWidget',
      'asin': 'B',
    },
    {'asin': 'C', 'title': 'Old', 'price': '$2.00 - $3.00'},
    {'asin': 'C', 'title': 'Card'},
  ],
}  # fmt: skip
AMAZON_2023 = {
  'Gift_Cards.jsonl.gz': [
    _review_2023('U1', 'A', 1_588_687_728_923),
    _review_2023('U1', 'B', 1_588_687_728_922),
    _review_2023('U1', 'C', 1_588_615_855_070, 2.0),
  ],
  'meta_Gift_Cards.jsonl.gz': [
    {
      'main_category': 'Gift Cards',
      'title': 'Card',
      'average_rating': 4.8,
      'rating_number': 10,
      'features': ['Thick', 'Red'],
      'description': ['A card.', 'Red'],
      'price': 12.9,
      'images': [{'thumb': 'x', 'variant': 'MAIN'}],
      'videos': [],
      'store': 'Ann',
      'categories': ['Gift Cards', 'Birthday'],
      'details': {'Brand': 'Ann'},
      'parent_asin': 'A',
      'bought_together': None,
    },
    {
      'title': 'Box', 'features': [], 'description': ['A box.'],
      'price': None, 'store': None, 'categories': [], 'parent_asin': 'B',
    },
    {'title': 'Bag', 'price': 'from 14.99', 'parent_asin': 'C'},
    {'title': 'Never bought', 'parent_asin': 'Z'},
  ],
}  # fmt: skip
STEAM = {
  'steam_reviews.json.gz': [
    _review_steam("Rock'n\u202eRoll", '10', '2017-12-19'),
    _review_steam("Rock'n\u202eRoll", '20', '2017-12-17'),
    _review_steam("Rock'n\u202eRoll", '30', '2017-12-18'),
  ],
  'steam_games.json.gz': [
    _Literal(
      publisher='Kotoshiro', genres=['Action', 'Animation &amp; Modeling'],
      app_name='Lost Cat', title='Lost Cat', url='http://x/10',
      release_date='2018-01-04', tags=['Strategy', 'Action'],
      discount_price=4.49, specs=['Single-player'], price=4.99,
      early_access=False, id='10', developer='Koto',
    ),
    _Literal(app_name='Ironbound', price='Free To Play', id='20', genres=[],
             publisher='Secret'),
    _Literal(title='Real Pool', tags=['Sports'], id='30'),
    _Literal(app_name='Never reviewed', id='40'),
  ],
}  # fmt: skip
YELP = {
  'yelp_academic_dataset_review.json': [
    _review_yelp('mh_-', 'XQf', '2018-07-07 22:09:11'),
    _review_yelp('mh_-', 'YjU', '2012-01-03 15:28:18'),
    _review_yelp('mh_-', 'kxX', '2018-07-07 22:09:10', 1.0),
  ],
  'yelp_academic_dataset_business.json': [
    {
      'business_id': 'XQf',
      'name': 'Caf\u00e9 &amp; Bar',
      'address': '935 Race St',
      'city': 'Philadelphia',
      'state': 'PA',
      'postal_code': '19107',
      'latitude': 39.9,
      'longitude': -75.1,
      'stars': 4.0,
      'review_count': 80,
      'is_open': 1,
      'attributes': {'BikeParking': 'True'},
      'categories': 'Restaurants, Bubble Tea',
      'hours': None,
    },
    {'business_id': 'YjU', 'name': 'Pool', 'city': 'Reno', 'categories': None},
    {'business_id': 'kxX', 'name': 'Gym', 'state': 'CA', 'categories': 'Gyms'},
    {'business_id': 'zzz', 'name': 'Not reviewed'},
  ],
}
SHOPS = {
  'amazon2018/Gift_Cards': AMAZON_2018,
  'amazon2023/Gift_Cards': AMAZON_2023,
  'steam': STEAM,
  'yelp': YELP,
}


def content(records, extra=()):
  lines = [
    _u(record) if isinstance(record, _Literal) else json.dumps(record)
    for record in records
  ]
  return ''.join(f'{line}\n' for line in [*lines, *extra]).encode()


def write(folder, files):
  folder.mkdir(exist_ok=True)
  for name, records in files.items():
    text = records if isinstance(records, bytes) else content(records)
    if name.endswith('.gz'):
      text = gzip.compress(text)
    (folder / name).write_bytes(text)


def load(name, folder, **flags):
  config = DatasetConfig(name=name, source_dir=str(folder), **flags)
  return loading.load_dataset(config, 0)


def load_error(name, folder, **flags):
  with pytest.raises(DataError) as error:
    load(name, folder, **flags)
  assert '\n' not in str(error.value)
  return str(error.value)


def test_amazon2018(tmp_path):
  write(tmp_path, AMAZON_2018)
  dataset = load('amazon2018/Gift_Cards', tmp_path)
  assert described.histories(dataset) == {
    'U1': ['C', 'B', 'A'],
    'U2': ['C', 'A', 'B'],
  }
  assert dataset.timestamps.tolist() == [100, 200, 300, 50, 100, 100]
  assert described.texts(dataset) == {
    'A': {
      'title': 'Card & Box',
      'price': '1012.99',
      'brand': 'by Ann',
      'categories': 'Gift Cards > Gift Card & Box',
      'description': 'For <you>. Or me.',
    },
    'B': {},
    'C': {'title': 'Card'},
  }
  assert dataset.counts['items'] == {
    'read': 5, 'used': 3, 'never_bought': 0, 'repeated': 1,
  }  # fmt: skip
  assert dataset.counts['rows'] == {
    'interactions': {'read': 6, 'kept': 6, 'dropped': {}},
    'items': {'read': 5, 'kept': 5, 'dropped': {}},
  }
  lines = counts.lines(dataset.counts)
  assert 'text: empty: title 1, price 2' in '; '.join(lines)


def test_amazon2023(tmp_path):
  write(tmp_path, AMAZON_2023)
  dataset = load('amazon2023/Gift_Cards', tmp_path)
  assert described.histories(dataset) == {'U1': ['C', 'B', 'A']}
  # The files have milliseconds, the dataset has microseconds.
  assert dataset.timestamps.tolist() == [
    1_588_615_855_070_000, 1_588_687_728_922_000, 1_588_687_728_923_000,
  ]  # fmt: skip
  assert described.texts(dataset) == {
    'A': {
      'title': 'Card',
      'price': '12.90',
      'brand': 'Ann',
      'categories': 'Gift Cards > Birthday',
      'description': 'Thick Red A card.',
    },
    'B': {'title': 'Box', 'description': 'A box.'},
    'C': {'title': 'Bag', 'price': 'from 14.99'},
  }


def test_steam(tmp_path):
  write(tmp_path, STEAM)
  dataset = load('steam', tmp_path)
  # Users choose their names, so control characters are escaped, not refused.
  assert described.histories(dataset) == {
    "Rock'n\\u202eRoll": ['20', '30', '10']
  }
  days = [17517, 17518, 17519]
  assert dataset.timestamps.tolist() == [day * 86_400 for day in days]
  assert described.texts(dataset) == {
    '10': {
      'title': 'Lost Cat',
      'price': '4.99',
      'brand': 'Koto',
      'categories': 'Action; Animation & Modeling; Strategy',
    },
    '20': {
      'title': 'Ironbound', 'price': 'Free To Play', 'brand': 'Secret',
    },
    '30': {'title': 'Real Pool', 'categories': 'Sports'},
    '40': {'title': 'Never reviewed'},
  }  # fmt: skip


def test_steam_allows_one_game_in_a_thousand_without_an_id(tmp_path):
  games = [_Literal(app_name=str(i), id=str(i)) for i in range(1000)]
  bad = [_Literal(app_name='x')]
  write(tmp_path, STEAM | {'steam_games.json.gz': [*games, *bad]})
  dataset = load('steam', tmp_path)
  (entry,) = dataset.counts['rows']['items']['dropped'].values()
  assert entry == {
    'rows': 1,
    'samples': ['steam_games.json.gz, line 1001: None'],
  }
  write(tmp_path, STEAM | {'steam_games.json.gz': [*games[1:], *bad, *bad]})
  text = load_error('steam', tmp_path)
  assert '2 of 1,001 rows are bad' in text
  assert 'most are with no id' in text


def check_yelp(dataset):
  assert described.histories(dataset) == {'mh_-': ['YjU', 'kxX', 'XQf']}
  assert dataset.timestamps.tolist() == [
    1_325_604_498, 1_531_001_350, 1_531_001_351,
  ]  # fmt: skip
  assert described.texts(dataset) == {
    'XQf': {
      'title': 'Caf\u00e9 & Bar',
      'categories': 'Restaurants; Bubble Tea',
      'description': 'Philadelphia, PA',
    },
    'YjU': {'title': 'Pool', 'description': 'Reno'},
    'kxX': {'title': 'Gym', 'categories': 'Gyms', 'description': 'CA'},
    'zzz': {'title': 'Not reviewed'},
  }


def test_yelp(tmp_path):
  write(tmp_path, YELP)
  check_yelp(load('yelp', tmp_path))


@pytest.mark.parametrize('mode', ['w', 'w:gz'])
def test_yelp_is_read_from_its_archive(tmp_path, mode):
  with tarfile.open(tmp_path / 'yelp_dataset.tar', mode) as archive:
    for name, records in reversed(YELP.items()):
      info = tarfile.TarInfo(f'./{name}')
      info.size = len(content(records))
      archive.addfile(info, io.BytesIO(content(records)))
  dataset = load('yelp', tmp_path)
  check_yelp(dataset)
  assert [x.name for x in tmp_path.iterdir()] == ['yelp_dataset.tar']


def test_yelp_cannot_be_downloaded(monkeypatch):
  monkeypatch.setattr(download, 'get', None)
  assert load_error('yelp', '') == (
    'yelp cannot be downloaded without an agreement: get yelp_dataset.tar from '
    'https://business.yelp.com/data/resources/open-dataset/ and set '
    'config.dataset.source_dir to its folder'
  )


@pytest.mark.parametrize('name', SHOPS)
def test_decompressed_files_are_read_too(tmp_path, name):
  files = SHOPS[name]
  write(tmp_path / 'a', files)
  plain = {x.removesuffix('.gz'): records for x, records in files.items()}
  write(tmp_path / 'b', plain)
  flags = {'max_bad_share': 0.5}
  first, second = (load(name, tmp_path / x, **flags) for x in ('a', 'b'))
  assert described.histories(first) == described.histories(second)
  assert described.texts(first) == described.texts(second)


@pytest.mark.parametrize('name', SHOPS)
@pytest.mark.parametrize('which', [0, 1])
def test_a_missing_file_is_named_with_its_address(tmp_path, name, which):
  files = SHOPS[name]
  write(tmp_path, files)
  missing = list(files)[which]
  (tmp_path / missing).unlink()
  text = load_error(name, tmp_path)
  assert text.startswith(f'{tmp_path} has no {missing}')
  site = {
    'amazon2018/Gift_Cards': 'https://mcauleylab.ucsd.edu/public_datasets/data/'
    'amazon_v2/',
    'amazon2023/Gift_Cards': 'https://mcauleylab.ucsd.edu/public_datasets/data/'
    'amazon_2023/raw/',
    'steam': 'https://mcauleylab.ucsd.edu/public_datasets/data/steam/',
    'yelp': 'https://business.yelp.com/data/resources/open-dataset/',
  }
  assert f'get it from {site[name]}' in text


def test_the_addresses_are_those_of_the_files(monkeypatch):
  urls = []

  def fake(url, folder):
    urls.append((folder.name, url.partition('/data/')[2]))
    if len(urls) % 2 == 0:
      raise DataError('not now')
    return folder / 'x'

  monkeypatch.setattr(download, 'get', fake)
  for name in ('amazon2018/Books', 'amazon2023/Books', 'steam'):
    assert load_error(name, '') == 'not now'
  assert urls == [
    ('tiger_jax_amazon2018', 'amazon_v2/categoryFilesSmall/Books_5.json.gz'),
    ('tiger_jax_amazon2018', 'amazon_v2/metaFiles2/meta_Books.json.gz'),
    ('tiger_jax_amazon2023',
     'amazon_2023/raw/review_categories/Books.jsonl.gz'),
    ('tiger_jax_amazon2023',
     'amazon_2023/raw/meta_categories/meta_Books.jsonl.gz'),
    ('tiger_jax_steam', 'steam/steam_reviews.json.gz'),
    ('tiger_jax_steam', 'steam/steam_games.json.gz'),
  ]  # fmt: skip


WRONG = [
  ('amazon2018/Gift_Cards', {'reviewerID': None}, 'user is None'),
  ('amazon2018/Gift_Cards', {'asin': ['A']}, "item is ['A']"),
  ('amazon2018/Gift_Cards', {'unixReviewTime': 'x'}, "timestamp is 'x'"),
  ('amazon2018/Gift_Cards', {'unixReviewTime': True}, 'timestamp is True'),
  ('amazon2018/Gift_Cards', {'unixReviewTime': 10**30}, 'timestamp is 1'),
  ('amazon2018/Gift_Cards', {'overall': 'five'}, "rating is 'five'"),
  ('amazon2018/Gift_Cards', {'overall': [5]}, 'rating is [5]'),
  ('amazon2023/Gift_Cards', {'timestamp': None}, 'timestamp is None'),
  ('amazon2023/Gift_Cards', {'timestamp': 1e9}, 'timestamp is 1000000000'),
  ('amazon2023/Gift_Cards', {'user_id': 'a\u202eb'}, "user is 'a\\u202eb'"),
  ('yelp', {'date': '2018-13-01'}, "timestamp is '2018-13-01'"),
  ('yelp', {'date': 20180101}, 'timestamp is 20180101: numbers'),
  ('steam', {'username': ''}, "user is ''"),
]  # fmt: skip


@pytest.mark.parametrize(('name', 'change', 'message'), WRONG)
def test_a_bad_row_is_refused_or_counted(tmp_path, name, change, message):
  files = SHOPS[name]
  events = next(iter(files))
  bad = type(files[events][0])(files[events][0] | change)
  write(tmp_path, files | {events: [*files[events], bad]})
  place = f'{tmp_path}/{events}, line {len(files[events]) + 1}'
  expected = described.histories(load(name, tmp_path, max_bad_share=0.5))
  if name != 'steam':
    text = load_error(name, tmp_path, min_rating=0.5)
    assert text.startswith(f'{place}: {message}')
    assert text.endswith('config.dataset.max_bad_share')
  flags = {} if name == 'steam' else {'min_rating': 0.5}
  dataset = load(name, tmp_path, max_bad_share=0.5, **flags)
  if 'overall' not in change:
    assert described.histories(dataset) == expected
  rows = dataset.counts['rows']['interactions']
  assert (rows['read'], rows['kept']) == (
    len(files[events]) + 1, len(files[events]),
  )  # fmt: skip
  (entry,) = rows['dropped'].values()
  assert entry['samples'][0].startswith(place.removeprefix(f'{tmp_path}/'))


@pytest.mark.parametrize('name', SHOPS)
def test_a_line_that_is_not_a_record_is_refused_or_counted(tmp_path, name):
  files = SHOPS[name]
  for number, file in enumerate(files):
    text = content(files[file], ['', '[1]', '__import__("os").abort()'])
    write(tmp_path, files | {file: text})
    first = len(files[file]) + 2
    if name != 'steam':
      assert f'{file}, line {first} is not a record' in load_error(
        name, tmp_path
      )
    dataset = load(name, tmp_path, max_bad_share=0.6)
    rows = list(dataset.counts['rows'].values())[number]
    assert rows['read'] == len(files[file]) + 2


def test_ratings_are_read_if_they_are_needed(tmp_path):
  write(tmp_path, AMAZON_2018)
  dataset = load(
    'amazon2018/Gift_Cards', tmp_path, min_rating=2, drop_short_users=True
  )
  assert list(described.histories(dataset)) == ['U1']
  write(tmp_path, STEAM)
  text = load_error('steam', tmp_path, min_rating=2, max_bad_share=0.5)
  assert 'has no ratings' in text


def test_a_template_may_name_any_field(tmp_path):
  write(tmp_path, AMAZON_2023)
  config = DatasetConfig(name='amazon2023/Gift_Cards', source_dir=str(tmp_path))
  dataset = loading.load_dataset(config, 0, ('title', 'main_category'))
  assert described.texts(dataset)['A']['main_category'] == 'Gift Cards'
  with pytest.raises(DataError) as error:
    loading.load_dataset(config, 0, ('title', 'colour'))
  text = str(error.value)
  assert text.startswith(f'{tmp_path}/meta_Gift_Cards.jsonl.gz has no ')
  assert "'colour' for any item" in text
  assert "'details'" in text


_VALUES = st.recursive(
  st.none()
  | st.booleans()
  | st.integers(-(10**25), 10**25)
  | st.floats()
  | st.text(max_size=3)
  | st.sampled_from(['A', '2018-01-01T00:00:00+05:00', '9999-12-31', '1e999']),
  lambda x: st.lists(x, max_size=2) | st.dictionaries(st.text(), x, max_size=1),
  max_leaves=3,
)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize('name', SHOPS)
def test_every_record_of_any_values_is_counted(data, name, tmp_path_factory):
  folder = tmp_path_factory.mktemp('shop')
  files = dict(SHOPS[name])
  for file, records in files.items():
    more = []
    for _ in range(data.draw(st.integers(0, 2))):
      keys = st.sampled_from(sorted(records[0]))
      change = data.draw(st.dictionaries(keys, _VALUES, max_size=3))
      more.append(type(records[0])(records[0] | change))
    files[file] = [*records, *more]
  write(folder, files)
  flags = {} if name == 'steam' else {'min_rating': 0.5}
  dataset = load(
    name, folder, max_bad_share=1, drop_short_users=True,
    allow_missing_metadata=True, **flags,
  )  # fmt: skip
  for rows, records in zip(
    dataset.counts['rows'].values(), files.values(), strict=True
  ):
    assert rows['read'] == len(records)
    dropped = sum(x['rows'] for x in rows['dropped'].values())
    assert rows['kept'] + dropped == rows['read']


def test_a_date_may_have_a_time_zone(tmp_path):
  events, items = YELP.values()
  events = [*events, events[0] | {'date': '2018-01-01T05:00:00+05:00'}]
  names = list(YELP)
  write(tmp_path, {names[0]: events, names[1]: items})
  times = load('yelp', tmp_path, keep_repeats=True).timestamps.tolist()
  assert 1_514_764_800 in times
