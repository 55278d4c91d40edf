"""Tests of the public names and of the examples in their docstrings."""

import doctest
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests import small, typed
import tiger_jax
from tiger_jax.errors import UsageError

# Makes the quickstart small; its shop always has 600 items.
SMALL = {
  'dataset.synthetic_users': 200,
  'train.steps': 20,
  'train.batch_size': 64,
  'train.steps_per_call': 10,
  'train.optimizer.warmup_steps': 5,
  'train.evaluate_every': 20,
  'evaluation.num_beams': 10,
}


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  """Returns a folder with the run that the examples in docstrings use."""
  folder = tmp_path_factory.mktemp('public')
  config = tiger_jax.load_config(
    str(small.ROOT / 'configs/quickstart.py'), SMALL
  )
  results = tiger_jax.run(config, folder / 'runs/quickstart')
  (folder / 'results.json').write_text(json.dumps(results))
  return folder


def test_run_returns_the_results_that_it_writes(folder):
  returned = json.loads((folder / 'results.json').read_text())
  written = folder / 'runs/quickstart/results.json'
  assert returned == json.loads(written.read_text())
  assert returned['metrics']['test'].keys() >= {'recall@10', 'ndcg@10'}


@pytest.mark.parametrize('name', tiger_jax.__all__)
def test_the_examples_of_each_public_name_run(name, folder, monkeypatch):
  monkeypatch.chdir(folder)
  public = getattr(tiger_jax, name)
  methods = vars(public).values() if isinstance(public, type) else ()
  finder = doctest.DocTestFinder(recurse=False)
  documented = [public, *(getattr(x, '__func__', x) for x in methods)]
  tests = [
    test
    for one in documented
    if (getattr(one, '__doc__', None) or '').count('>>>')
    for test in finder.find(one, name, globs={})
  ]
  assert tests, f'{name} has no example'
  for test in tests:
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, out=report.append)
    assert not runner.failures, ''.join(report)


def test_a_public_name_refers_to_the_object_of_its_module():
  assert set(tiger_jax.__all__) <= set(dir(tiger_jax))
  from tiger_jax.serving.recommender import Recommender

  assert tiger_jax.Recommender is Recommender
  with pytest.raises(AttributeError, match="no attribute 'Recomender'"):
    _ = tiger_jax.Recomender  # pyrefly: ignore[missing-attribute]


def test_importing_the_package_imports_no_library():
  code = (
    'import sys; before = set(sys.modules); import tiger_jax; '
    'print(*sorted({x.split(".")[0] for x in set(sys.modules) - before}))'
  )
  done = subprocess.run(
    [sys.executable, '-S', '-c', code],
    env={**os.environ, 'PYTHONPATH': str(small.ROOT)},
    capture_output=True,
    text=True,
    check=True,
  )
  loaded = set(done.stdout.split()) - sys.stdlib_module_names
  assert loaded == {'tiger_jax'}


def test_load_config_applies_overrides():
  quickstart = str(small.ROOT / 'configs/quickstart.py')
  config = tiger_jax.load_config(
    quickstart,
    {'train.steps': 7, 'model.dropout': 0, 'train.length_buckets': (5, 10)},
  )
  assert config.train.steps == 7 and config.model.dropout == 0.0
  assert config.train.length_buckets == (5, 10)
  refused = {'train.step': 9, 'model.dropout': [1]}
  with pytest.raises(UsageError, match='did you mean steps?'):
    tiger_jax.load_config(quickstart, refused)
  for value in ('many', 1.5, None, [3]):
    with pytest.raises(UsageError, match='config.train.steps is'):
      tiger_jax.load_config(quickstart, {'train.steps': value})
  same = tiger_jax.load_config(
    pathlib.Path(quickstart),
    {'config.train.steps': np.int64(7), 'model.dropout': np.float32(0.5)},
  )
  assert same.train.steps == 7 and same.model.dropout == 0.5
  table1 = str(small.ROOT / 'configs/paper/table1.py')
  with pytest.raises(UsageError, match='experiment of several runs'):
    tiger_jax.load_config(table1)


# Maps a wrong call to a part of its error message.
WRONG_CALLS = {
  'tiger_jax.load_config(None)': 'path is None: pass a path',
  "tiger_jax.load_config('a.py', [1])": 'overrides is [1]: pass a dict',
  "tiger_jax.load_config('nowhere.py')": "no config file 'nowhere.py'",
  "tiger_jax.run('configs/quickstart.py', 'x')": 'pass what load_config',
  'tiger_jax.run(tiger_jax.Config(), None)': 'workdir is None: pass a path',
  "tiger_jax.Config(seed='a')": "seed is 'a': it must be of type int",
  "tiger_jax.Config(train={'steps': 3})": 'it must be of type TrainConfig',
  'tiger_jax.Recommender.from_workdir(None)': 'workdir is None: pass a path',
  "tiger_jax.Recommender.from_workdir('x')": 'there is no folder x',
  "tiger_jax.Recommender.from_workdir('~nobody0/x')": 'no such home folder',
  "tiger_jax.Recommender.from_bundle('x')": 'there is no folder x',
  "tiger_jax.Recommender.from_bundle('x', 3)": 'text_model is 3: pass text',
  "tiger_jax.Recommender.from_hub('x', 3)": 'revision is 3: pass text',
}
_CALLER = """
import json, sys
import tiger_jax
from tiger_jax.errors import TigerError

messages = {}
for call in json.loads(sys.argv[1]):
  try:
    messages[call] = f'accepted: {eval(call)}'
  except TigerError as error:
    messages[call] = str(error)
print(json.dumps(messages))
"""


def test_wrong_calls_raise_a_one_line_error(tmp_path):
  """The calls run in a new process, which does not check argument types."""
  done = typed.python(
    '-c', _CALLER, json.dumps(list(WRONG_CALLS)), cwd=tmp_path
  )
  assert done.code == 0, done.err
  messages = json.loads(done.out)
  for call, expected in WRONG_CALLS.items():
    assert expected in messages[call] and '\n' not in messages[call]


def test_run_refuses_an_empty_source_dir(tmp_path):
  config = tiger_jax.load_config(str(small.ROOT / 'configs/own_data.py'))
  with pytest.raises(UsageError, match='source_dir is empty'):
    tiger_jax.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_unknown_ids_in_a_history_raise_an_error_or_are_listed(folder):
  shop = tiger_jax.Recommender.from_workdir(folder / 'runs/quickstart')
  with pytest.raises(UsageError, match="'P9012'.*did you mean 'P"):
    shop.recommend(['P0012', 'P9012'])
  items = shop.recommend(['P9012', 'P0012', 'lamp'], 5, strict=False)
  assert items == shop.recommend(['P0012'], 5)
  assert items.unknown == ('P9012', 'lamp')
  assert shop.recommend(['P0012'], 5).unknown == ()
  unknown = shop.recommend(iter(['lamp']), 5, strict=False)
  assert unknown == shop.recommend([], 5)
  assert (unknown.unknown, unknown.fallback) == (('lamp',), 'popular')
  with pytest.raises(UsageError, match="did you mean 'P0009'"):
    shop.recommend(['P9'])
  with pytest.raises(UsageError, match="history is the text 'P0012'"):
    shop.recommend('P0012', strict=False)
