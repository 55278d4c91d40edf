import numpy as np
import pytest

from tiger_jax.config import DatasetConfig
from tiger_jax.data import loading
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
    ('amazon2018/Beauty', 'amazon2014/Beauty'),
  ],
)
def test_an_unknown_name_suggests_a_known_one(name, near):
  with pytest.raises(UsageError) as error:
    loading.load_dataset(DatasetConfig(name=name), 0)
  assert f'did you mean {near!r}?' in str(error.value)


@pytest.mark.parametrize('name', ['files', 'amazon2014/Toys_and_Games'])
def test_a_missing_source_dir_is_named(tmp_path, name):
  source = tmp_path / 'source'
  config = DatasetConfig(name=name, source_dir=str(source))
  with pytest.raises(DataError, match=str(source)):
    loading.load_dataset(config, 0)
