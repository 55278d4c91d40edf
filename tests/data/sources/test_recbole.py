import pytest

from tests.data.sources import described
from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts, loading
from tiger_jax.errors import DataError, UsageError

INTER = """\
user_id:token\titem_id:token\trating:float\ttimestamp:float
196\t242\t3\t881250949
196\t302\t3.0\t881250948.0
196\t"377\t1\t8.81250947E8
22\t242\t2\t5
22\t302\t2\t6
22\t"377\t2\t7
"""
ITEM = """\
item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq
242\tKolya\t1996\tComedy
302\tL.A. "Confidential"\t1997\tCrime Film-Noir Mystery
"377\t"Heavyweights\t1994\t
"""
HISTORIES = {'196': ['"377', '302', '242'], '22': ['242', '302', '"377']}


def write(folder, inter=INTER, item=ITEM):
  folder.mkdir(exist_ok=True)
  (folder / 'ml-100k.inter').write_text(inter)
  if item is not None:
    (folder / 'ml-100k.item').write_text(item)


def load(folder, **settings):
  config = DatasetConfig(name=f'recbole:{folder}', **settings)
  return loading.load_dataset(config, 0)


def load_error(folder, **settings):
  with pytest.raises(DataError) as error:
    load(folder, **settings)
  assert '\n' not in str(error.value)
  return str(error.value)


def test_both_files_are_read(tmp_path):
  write(tmp_path)
  dataset = load(tmp_path)
  assert described.histories(dataset) == HISTORIES
  assert dataset.timestamps.tolist() == [
    881250947, 881250948, 881250949, 5, 6, 7,
  ]  # fmt: skip
  # Quotation marks have no meaning.
  assert described.texts(dataset) == {
    '242': {'title': 'Kolya', 'categories': 'Comedy'},
    '302': {
      'title': 'L.A. "Confidential"',
      'categories': 'Crime; Film-Noir; Mystery',
    },
    '"377': {'title': '"Heavyweights'},
  }


def test_a_folder_is_relative_to_source_dir(tmp_path):
  write(tmp_path / 'ml-100k')
  dataset = load('ml-100k', source_dir=str(tmp_path))
  assert described.histories(dataset) == HISTORIES
  assert dataset.name == 'recbole:ml-100k'


def test_without_items_ids_are_titles(tmp_path):
  write(tmp_path, item=None)
  dataset = load(tmp_path)
  assert described.histories(dataset) == HISTORIES
  assert {dataset.items.title(row) for row in range(3)} == {
    '242', '302', '"377',
  }  # fmt: skip
  assert 'ids of items are their titles' in counts.lines(dataset.counts)[-1]


def test_without_times_the_order_of_the_file_counts(tmp_path):
  rows = [line.rpartition('\t')[0] for line in INTER.splitlines()]
  write(tmp_path, '\n'.join(rows))
  dataset = load(tmp_path)
  assert dataset.timestamps is None
  assert 'has no column timestamp' in counts.lines(dataset.counts)[-1]
  assert described.histories(dataset) == {
    '196': ['242', '302', '"377'], '22': HISTORIES['22'],
  }  # fmt: skip


def test_ratings_and_named_columns(tmp_path):
  write(tmp_path, INTER.replace('rating:float', 'weight:float'))
  assert 'has no ratings' in load_error(tmp_path, min_rating=2)
  config = DatasetConfig()
  columns = type(config.columns)(rating='weight', title='release_year')
  dataset = load(tmp_path, min_rating=2, columns=columns, drop_short_users=True)
  assert described.histories(dataset) == {'22': HISTORIES['22']}
  assert described.texts(dataset)['242']['title'] == '1996'


@pytest.mark.parametrize(
  ('categories', 'expected'),
  [
    ("'Toys & Games', 'Kids'", 'Toys & Games; Kids'),
    ("'A', \"B's\", 'C'", "A; B's; C"),
    ('Food, Bubble Tea', 'Food; Bubble Tea'),
    ('Drama  War', 'Drama; War'),
    ("Children's Comedy", "Children's; Comedy"),
  ],
)
def test_sequences_of_categories(tmp_path, categories, expected):
  item = ITEM.replace('Crime Film-Noir Mystery', categories)
  write(tmp_path, item=item)
  assert described.texts(load(tmp_path))['302']['categories'] == expected


@pytest.mark.parametrize(('unit', 'stored'), [(1, 1), (1000, 1), (10**6, 1)])
def test_times_of_any_unit_become_seconds(tmp_path, unit, stored):
  times = [1_400_000_000 + i for i in range(3)]
  rows = [f'u\t{i}\t{time * unit}' for i, time in enumerate(times)]
  header = 'user_id:token\titem_id:token\ttimestamp:float'
  write(tmp_path, '\n'.join([header, *rows]), None)
  assert load(tmp_path).timestamps.tolist() == times


def test_fractions_of_seconds_become_microseconds(tmp_path):
  header = 'user_id:token\titem_id:token\ttimestamp:float'
  rows = [f'u\t{i}\t{1_400_000_000 - i}.25' for i in range(3)]
  write(tmp_path, '\n'.join([header, *rows]), None)
  assert load(tmp_path).timestamps.tolist() == [
    1_399_999_998_250_000, 1_399_999_999_250_000, 1_400_000_000_250_000,
  ]  # fmt: skip


@pytest.mark.parametrize(
  ('inter', 'message'),
  [
    ('', 'begins with None'),
    ('user_id,item_id\n1,2\n', 'the name and the type of each column'),
    ('user_id:token\titem_id:text\n1\t2\n', 'as in user_id:token'),
    ('user_id:token\tx:token\n1\t2\n', 'has no column item'),
    ('user_id:token\titem_id:token\n', 'has no event that can be used'),
    (INTER + '1\t2\n', 'line 8: number of cells is 2: it must be 4'),
    (INTER + '1\t2\t3\tx\n', "line 8: timestamp is 'x'"),
    (INTER + '1\t2\t3\t881250949000\n', 'most times are in seconds'),
    (INTER + '1\t2\t3\tx\n', 'config.dataset.max_bad_share'),
  ],
)
def test_the_error_for_a_wrong_file_is_one_line(tmp_path, inter, message):
  write(tmp_path, inter)
  text = load_error(tmp_path)
  assert text.startswith(f'{tmp_path}/ml-100k.inter')
  assert message in text


def test_the_folder_must_hold_one_inter_file(tmp_path):
  assert f'{tmp_path} must hold one .inter file' in load_error(tmp_path)
  write(tmp_path)
  (tmp_path / 'b.inter').write_text('')
  assert 'has b.inter, ml-100k.inter' in load_error(tmp_path)
  assert 'and does not exist' in load_error(tmp_path / 'x')
  with pytest.raises(UsageError, match="did you mean 'recbole:FOLDER'"):
    load('')


def test_a_template_may_name_any_column(tmp_path):
  write(tmp_path)
  config = DatasetConfig(name=f'recbole:{tmp_path}')
  dataset = loading.load_dataset(config, 0, ('title', 'release_year'))
  assert described.texts(dataset)['302']['release_year'] == '1997'
  for name in ('release', 'brand'):
    with pytest.raises(DataError, match=f"no '{name}' for any item") as error:
      loading.load_dataset(config, 0, (name,))
    assert "'movie_title', 'release_year'" in str(error.value)
