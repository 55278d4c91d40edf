"""Tests of config files and overrides."""

import sys

import pytest

from tiger_jax.config import config_dict
from tiger_jax.config.config_file import load, override, split
from tiger_jax.errors import UsageError


def override_one(path, value, config=None):
  """Overrides a field, and returns its new value."""
  config = config or config_dict.defaults()
  override(config, {path: value})
  *sections, name = path.split('.')
  for section in sections:
    config = config[section]
  return config[name]


@pytest.mark.parametrize(
  ('path', 'text', 'expected'),
  [
    ('seed', '3', 3),
    ('train.steps', '7', 7),
    ('train.optimizer.learning_rate', '1e-2', 0.01),
    ('train.optimizer.learning_rate', '1', 1.0),
    ('train.on_non_finite', 'rewind:1,skip:2', 'rewind:1,skip:2'),
    ('dataset.name', '12', '12'),
    ('dataset.name', 'None', 'None'),
    ('dataset.source_dir', '', ''),
    ('dataset.drop_short_users', 'TRUE', True),
    ('dataset.drop_short_users', '0', False),
    ('dataset.drop_short_users', True, True),
    ('dataset.drop_short_users', False, False),
    ('semantic_ids.codebook_sizes', '(8, 4)', (8, 4)),
    ('semantic_ids.codebook_sizes', '[8,4]', (8, 4)),
    ('semantic_ids.codebook_sizes', '8,4', (8, 4)),
    ('semantic_ids.codebook_sizes', '8,', (8,)),
    ('semantic_ids.codebook_sizes', '()', ()),
    ('semantic_ids.shared_with', 'runs/a-b', ('runs/a-b',)),
    ('semantic_ids.shared_with', "('a','b')", ('a', 'b')),
  ],
)
def test_override_converts_text_to_the_type_of_the_field(path, text, expected):
  value = override_one(path, text)
  assert value == expected
  assert type(value) is type(expected)


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('configs/beauty.py', ('configs/beauty.py', '')),
    ('configs/beauty.py:cpu', ('configs/beauty.py', 'cpu')),
    ('c:/x.py:a:b', ('c:/x.py', 'a:b')),
    ('x', ('x', '')),
  ],
)
def test_splits_path_and_variant(name, expected):
  assert split(name) == expected


def test_a_config_file_does_not_see_the_names_of_another(tmp_path):
  (tmp_path / 'a.py').write_text(
    'from tiger_jax.config import config_dict\n'
    'SEED = 3\n'
    'def get_config():\n'
    '  config = config_dict.defaults()\n'
    '  config.seed = SEED\n'
    '  return config\n'
  )
  (tmp_path / 'b.py').write_text('')
  assert load(str(tmp_path / 'a.py')).seed == 3
  with pytest.raises(UsageError, match='get_config'):
    load(str(tmp_path / 'b.py'))


def test_a_config_imports_its_neighbors_before_installed_configs(
  tmp_path, monkeypatch
):
  body = (
    'from tiger_jax.config import config_dict\n'
    'def get_config():\n'
    '  config = config_dict.defaults()\n'
    '  config.seed = SEED\n'
    '  return config\n'
  )
  for folder, seed in (('a', 3), ('b', 4)):
    configs = tmp_path / folder / 'configs'
    configs.mkdir(parents=True)
    (configs / 'beauty.py').write_text(body.replace('SEED', str(seed)))
    (configs / 'mine.py').write_text(
      'from configs import beauty, sports\nget_config = beauty.get_config\n'
    )
  (tmp_path / 'a' / 'neighbor.py').write_text('SEED = 5')
  (tmp_path / 'a' / 'other.py').write_text(
    'from configs import beauty\nfrom neighbor import SEED\n'
    'def get_config():\n'
    '  config = beauty.get_config()\n'
    '  config.seed += SEED\n'
    '  return config\n'
  )
  monkeypatch.chdir(tmp_path / 'a')
  monkeypatch.setattr(sys, 'path', [x for x in sys.path if x])
  assert load('configs/mine.py').seed == 3
  assert load(f'{tmp_path}/b/configs/mine.py').seed == 4
  assert load('other.py').seed == 8


def test_reads_an_installed_config_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert load('./configs/quickstart.py').dataset.name == 'synthetic'
  with pytest.raises(UsageError, match='did you mean configs/toys.py?'):
    load('configs/toyz.py')
