"""Tests the specs of the experiments."""

import dataclasses
import importlib

import pytest

from tests import small
from tests.experiments.test_runs import COMMAND, spec_of
from tiger_jax.config import EvaluationConfig
from tiger_jax.experiments.spec import parse
from tiger_jax.report import paper

NAMES = sorted(
  path.stem
  for path in (small.ROOT / 'configs' / 'paper').glob('*.py')
  if path.stem != 'specs'
)


@pytest.mark.parametrize(
  ('name', 'variant'),
  [
    (name, variant)
    for name in NAMES
    for variant in ('', 'cpu', 'cpu_long')
    if (name, variant) != ('table1', 'cpu_long')
  ],
)
def test_every_spec_is_valid(name, variant):
  experiment = parse(spec_of(name, variant), COMMAND)
  assert paper.without_variant(experiment.name) == name
  assert experiment.name == (f'{name}_{variant}' if variant else name)
  shops = {run.dataset for run in experiment.runs}
  assert shops <= set(experiment.shops)
  assert 'beauty' in shops
  names = [(run.dataset, run.name) for run in experiment.runs]
  assert len(names) == len(set(names))
  configs = [(run.dataset, run.config) for run in experiment.runs]
  assert len(configs) == len(set(configs))


@pytest.mark.parametrize('shop', ['beauty', 'sports', 'toys'])
def test_the_runs_of_our_training_share_one_training(shop):
  experiment = parse(spec_of('table1', ''), COMMAND)
  ours = [
    run.config
    for run in experiment.runs
    if run.dataset == shop and run.name.startswith('TIGER, our training')
  ]
  *ours, shuffled = ours
  assert len(ours) == 3
  assert shuffled.train.replicas == 1 and shuffled.dataset.shuffle_ties
  assert shuffled.train.steps == ours[0].train.steps
  shared = {dataclasses.replace(x, evaluation=EvaluationConfig()) for x in ours}
  assert len(shared) == 1
  # The first run has the mean of the models, and the others rank with all.
  assert [x.evaluation.ensemble for x in ours] == [False, True, True]
  weights = [x.evaluation.transition_weight for x in ours]
  assert weights[:2] == [0, 0] and weights[2] > 0


@pytest.mark.parametrize('name', NAMES)
def test_the_docstring_of_a_config_gives_the_command(name):
  module = importlib.import_module(f'configs.paper.{name}')
  command = f'python -m tiger_jax.main --config=configs/paper/{name}.py'
  assert command in module.__doc__
  assert f'{name}.py:cpu' in module.__doc__
