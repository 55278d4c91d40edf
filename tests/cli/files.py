"""Writes the faulty files that the commands in `test_errors` read."""

import gzip
import json
from pathlib import Path

from tests.small import ROOT

_DEFAULTS = (
  'from tiger_jax.config import config_dict\n'
  'def get_config():\n'
  '  config = config_dict.defaults()\n'
  '  {}\n'
  '  return config\n'
)
_EXPERIMENT = (
  'import ml_collections\n'
  'def get_config():\n'
  '  return ml_collections.ConfigDict({})\n'
)
_RUNS = {
  'experiment': 'mine', 'base': {}, 'datasets': {'a': {}}, 'runs': {'r': {}},
  'measured': ('a',), 'order': ('r',), 'table': ('r',), 'columns': (),
}  # fmt: skip
_TEXTS = {
  'file': 'not a folder',
  'syntax.py': 'def get_config(:\n',
  'empty.py': '',
  'number.py': 'get_config = 3\n',
  'raises.py': 'def get_config():\n  1 / 0\n',
  'assertion.py': 'def get_config():\n  assert False\n',
  'name.py': 'def get_config():\n  return undefined_name\n',
  'two_lines.py': 'def get_config():\n  raise ValueError("first\\nsecond")\n',
  'long_text.py': 'def get_config():\n  raise ValueError("x " * 10**5)\n',
  'control.py': 'def get_config():\n  raise ValueError("\\x1b[2J")\n',
  'key.py': 'def get_config(): raise KeyError("a b")\n',
  'memory.py': 'def get_config():\n  raise MemoryError\n',
  'recursion.py': 'def get_config():\n  return get_config()\n',
  'exits.py': 'import sys\nsys.exit(3)\n',
  'returns.py': 'def get_config(): return 3\n',
  'nothing.py': 'def get_config(): pass\n',
  'variant.py': 'def get_config(size): pass\n',
  'imports.py': 'import no_such_module\n',
  'nul.py': 'def get_config(): pass\0\n',
  'type.py': _DEFAULTS.format('config.train.steps = "x"'),
  'field.py': _DEFAULTS.format(
    'with config.unlocked(): config.train.stepz = 3'
  ),
  'number_key.py': _DEFAULTS.format('config.unlock(); config[3] = 4'),
  'number_keys.py': _DEFAULTS.format(
    'config.unlock(); config.embedding = config.embedding.__class__({3: 4})'
  ),
  'not_set.py': _DEFAULTS.format(
    'config.seed = config_dict.ml_collections.config_dict.required_placeholder('
    'int)'
  ),
  'none.py': _DEFAULTS.format(
    'with config.unlocked(): config.train.steps = None'
  ),
  'experiment.py': _EXPERIMENT.format({'experiment': 'mine'}),
  'experiment_runs.py': _EXPERIMENT.format(_RUNS | {'runs': {'r': 3}}),
  'experiment_shop_runs.py': _EXPERIMENT.format(
    _RUNS | {'datasets': {'a': {'runs': 3}}}
  ),
  'experiment_shop_run.py': _EXPERIMENT.format(
    _RUNS | {'datasets': {'a': {'runs': {'r': 4}}}}
  ),
  'names_itself': '--config=configs/quickstart.py\n--flagfile=names_itself\n',
  'nul_workdir': '--config=configs/quickstart.py\n--workdir=a\0b\n--mode=data',
  'help_flags': '--nonsense\n',
  'histories.jsonl': '{"user": 1, "history": []}\n'
  '{"user": 2, "history": "A001"}\n',
}  # fmt: skip
_LINES = {
  'cut': '{"asin": ',
  'number': '12',
  'code': 'import os',
  'long': 'x' * 5000,
}


def make(folder: Path) -> None:
  """Writes all faulty files, and a link to the configs."""
  (folder / 'configs').symlink_to(ROOT / 'configs')
  for name in ('runs/quickstart', 'folder'):
    (folder / name).mkdir(parents=True)
  (folder / 'binary').write_bytes(b'\xff\xfe\0')
  (folder / 'loop').symlink_to('loop')
  for name, text in _TEXTS.items():
    (folder / name).write_text(text)
  _make_raw(folder / 'raw')


def _make_raw(folder: Path) -> None:
  """Writes a folder of Amazon data for each mistake."""
  events = [
    json.dumps({'reviewerID': user, 'asin': item, 'unixReviewTime': i})
    for i, (user, item) in enumerate((u, i) for u in 'uvw' for i in 'ABCD')
  ]
  items = [json.dumps({'asin': x, 'title': f'Item {x}'}) for x in 'ABCD']
  good = {
    'reviews_Beauty_5.json.gz': _zip(events),
    'meta_Beauty.json.gz': _zip(items),
  }
  shops = {
    'item_without_metadata': {'meta_Beauty.json.gz': _zip(items[:-1])},
    'short_user': {'reviews_Beauty_5.json.gz': _zip(events[:-2])},
  }
  for name, lines in zip(good, (events, items), strict=True):
    prefix = name.partition('_')[0]
    shops[f'no_{prefix}'] = {name: None}
    shops[f'{prefix}_html'] = {name: b'<!DOCTYPE html><html>Not found</html>'}
    shops[f'{prefix}_truncated'] = {name: good[name][:-20]}
    for mistake, line in _LINES.items():
      bad_lines = [*lines[:2], line, *lines[2:]]
      shops[f'{prefix}_{mistake}'] = {name: _zip(bad_lines)}
  for shop, changes in shops.items():
    (folder / shop).mkdir(parents=True)
    for name, content in (good | changes).items():
      if content is not None:
        (folder / shop / name).write_bytes(content)


def _zip(lines: list[str]) -> bytes:
  return gzip.compress('\n'.join(lines).encode())
