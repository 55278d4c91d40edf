import numpy as np
import pytest

from tiger_jax.config import DatasetConfig
from tiger_jax.data import loading
from tiger_jax.data.sources import registry
from tiger_jax.errors import DataError, UsageError


def test_the_default_is_the_synthetic_shop():
  config = DatasetConfig(synthetic_users=20)
  dataset = loading.load_dataset(config, 7)
  assert dataset.name == 'synthetic'
  assert dataset.num_users == 20
  again = loading.load_dataset(config, 7)
  other = loading.load_dataset(config, 8)
  np.testing.assert_array_equal(dataset.history, again.history)
  assert dataset.history.tolist() != other.history.tolist()


@pytest.mark.parametrize(
  ('name', 'near'),
  [
    ('syntetic', 'synthetic'),
    ('file', 'files'),
    ('amazon2014/Beaty', 'amazon2014/Beauty'),
    ('amazon2014/Sports', 'amazon2014/Sports_and_Outdoors'),
    ('amazon2014', 'amazon2014/Amazon_Instant_Video'),
    ('amazon2018/Beauty', 'amazon2018/All_Beauty'),
    ('amazon2023/Toys', 'amazon2023/Toys_and_Games'),
    ('movielens/10m', 'movielens/1m'),
    ('movielens', 'movielens/1m'),
    ('recbole', 'recbole:FOLDER'),
    ('recbole:', 'recbole:FOLDER'),
    ('recbole/x', 'recbole:FOLDER'),
    ('steam/x', 'steam'),
    ('Yelp', 'yelp'),
    ('', 'synthetic'),
  ],
)
def test_an_unknown_name_suggests_a_known_one(name, near):
  with pytest.raises(UsageError) as error:
    loading.load_dataset(DatasetConfig(name=name), 0)
  assert f'did you mean {near!r}?' in str(error.value)


def test_every_name_of_the_table_is_known():
  for source in registry.SOURCES.values():
    for name in source.names:
      assert registry.find(name)[0] is source
  assert registry.find('recbole:a/b:c')[1] == 'a/b:c'


@pytest.mark.parametrize(
  ('name', 'files'),
  [
    ('synthetic', []),
    ('files', ['items.csv']),
    ('amazon2014/Baby', ['reviews_Baby_5.json.gz', 'meta_Baby.json.gz']),
    ('amazon2018/Books', ['Books_5.json.gz', 'meta_Books.json']),
    ('amazon2023/Books', ['Books.jsonl.gz', 'meta_Books.jsonl']),
    ('movielens/1m', ['ml-1m/ratings.dat', 'movies.dat', 'ml-1m.zip']),
    ('movielens/32m', ['ml-32m/movies.csv', 'ratings.csv', 'ml-32m.zip']),
    ('recbole:x', ['x/y.inter', 'x/y.item']),
    ('steam', ['steam_reviews.json.gz', 'steam_games.json']),
    ('yelp', ['yelp_academic_dataset_review.json', 'yelp_dataset.tar']),
  ],
)
def test_a_changed_file_changes_the_fingerprint(tmp_path, name, files):
  config = DatasetConfig(name=name, source_dir=str(tmp_path))
  before = loading.made_from(config, 0)
  assert loading.made_from(DatasetConfig(name=name), 0)[0] == name
  for file in files:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(file)
    after = loading.made_from(config, 0)
    assert after != before
    before = after


@pytest.mark.parametrize('name', ['files', 'amazon2014/Toys_and_Games'])
def test_a_missing_source_dir_is_named(tmp_path, name):
  source = tmp_path / 'source'
  config = DatasetConfig(name=name, source_dir=str(source))
  with pytest.raises(DataError, match=str(source)):
    loading.load_dataset(config, 0)
