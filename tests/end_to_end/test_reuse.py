"""Tests of which stages a second run reuses."""

import math
import re

import pytest

from tests.end_to_end.program import (
  FOLDERS,
  SHOP,
  artifacts,
  clone,
  program,
  read,
)
from tiger_jax.pipeline import STAGES
from tiger_jax.serving.recommender import Recommender

pytestmark = pytest.mark.usefixtures('one_device')


def test_a_second_run_reuses_all_stages(shop, tmp_path, capfd):
  again = clone(shop, tmp_path / 'run')
  before = artifacts(again)
  results = read(shop / 'results.json')
  assert program(again, *SHOP) == 0
  assert artifacts(again) == before
  assert read(again / 'results.json') == results
  out, err = capfd.readouterr()
  for name in FOLDERS:
    assert f'{name}: reused' in out
  assert 'made in' not in out
  assert err == ''
  # The printed examples are ten items, with ids, for each of five users.
  assert out.count('\nShopper shopper-') == 5
  assert len(re.findall(r'\n  [ *] +\d+ +-\d+\.\d\d  P0\d{3} ', out)) == 50
  assert 'best possible' in out


@pytest.mark.parametrize('mode', list(STAGES)[:3])
def test_each_mode_stops_after_its_stage(tmp_path, mode):
  workdir = tmp_path / 'run'
  assert program(workdir, *SHOP, f'--mode={mode}') == 0
  made = [name for name in FOLDERS if (workdir / name).exists()]
  assert made == list(FOLDERS[: list(STAGES).index(mode) + 1])
  assert not (workdir / 'results.json').exists()


def test_only_the_evaluate_mode_writes_results(shop, tmp_path, capfd):
  workdir = clone(shop, tmp_path / 'run')
  (workdir / 'results.json').unlink()
  assert program(workdir, *SHOP, '--mode=train') == 0
  assert not (workdir / 'results.json').exists()
  capfd.readouterr()
  assert program(workdir, *SHOP, '--mode=evaluate') == 0
  assert read(workdir / 'results.json') == read(shop / 'results.json')
  out = capfd.readouterr().out
  assert 'TIGER test' in out
  assert 'Shopper' not in out


def test_a_changed_section_reruns_its_stage(shop, tmp_path):
  workdir = clone(shop, tmp_path / 'run')
  before = artifacts(workdir)
  changed = ('--config.evaluation.batch_size=16',)
  assert program(workdir, *SHOP, *changed) == 0
  kept = FOLDERS[:4]
  assert artifacts(workdir, kept) == {
    name: state for name, state in before.items() if name.split('/')[0] in kept
  }
  assert artifacts(workdir, FOLDERS[4:]) != artifacts(shop, FOLDERS[4:])
  # The batch size of the search changes no result.
  metrics = read(workdir / 'results.json')['metrics']['test']
  expected = read(shop / 'results.json')['metrics']['test']
  assert metrics == pytest.approx(expected)
  # A run with the first config uses the first evaluation again.
  assert program(workdir, *SHOP) == 0
  assert artifacts(workdir) == before


def test_a_different_softmax_trains_a_new_model(shop, tmp_path, capfd):
  """The unfinished training with the first softmax is not resumed."""
  workdir = clone(shop, tmp_path / 'run')
  before = artifacts(workdir)
  changed = (
    *SHOP,
    '--config.model.softmax=trie',
    '--config.model.recency_bias=True',
    '--config.model.prefix_embeddings=64',
  )
  # Without this file, training is not finished.
  finished = read(workdir / 'train' / 'stage.json')
  (workdir / 'train' / 'stage.json').unlink()
  partial = workdir / f'train.partial-{finished["fingerprint"][:8]}'
  (workdir / 'train').rename(partial)
  capfd.readouterr()
  assert program(workdir, *changed, '--mode=evaluate') == 0
  out = capfd.readouterr().out
  for name in FOLDERS[:3]:
    assert f'{name}: reused' in out
  assert 'train: made in' in out and partial.name in out
  test = read(workdir / 'results.json')['metrics']['test']
  assert 'recall@10' in test and 'invalid@10' not in test
  # The model is served with its own softmax: the probabilities of all items
  # sum to 1.
  recommender = Recommender.from_workdir(workdir)
  ranked = recommender.recommend(['P0001', 'P0002'], k=600)
  assert sum(math.exp(x.score) for x in ranked) == pytest.approx(1, rel=1e-3)
  # With the first config, the first training resumes from its checkpoints.
  assert program(workdir, *SHOP, '--mode=train') == 0
  assert 'train: made in' in capfd.readouterr().out
  after = artifacts(workdir, ('train',))
  kept = {x for x in before if x.startswith('train/checkpoints')}
  assert {x: after.get(x) for x in kept} == {x: before[x] for x in kept}


def test_serving_uses_the_ids_of_the_trained_model(shop, tmp_path, capfd):
  workdir = clone(shop, tmp_path / 'run')
  before = artifacts(workdir)
  changed = ('--config.semantic_ids.beta=0.5', '--mode=semantic_ids')
  assert program(workdir, *SHOP, *changed) == 0
  after = artifacts(workdir)
  for name in FOLDERS:
    same = {
      key: state for key, state in before.items() if key.split('/')[0] == name
    }
    assert (same.items() <= after.items()) == (name != 'semantic_ids')
  # Serving reads the previous IDs, because the model was trained with them.
  request = ('--mode=recommend', '--history=P0001')
  capfd.readouterr()
  assert program(shop, *request) == 0
  expected = capfd.readouterr().out
  assert program(workdir, *request) == 0
  assert capfd.readouterr().out == expected
