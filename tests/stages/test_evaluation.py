"""Tests of the evaluation stage against metrics computed with loops."""

import numpy as np
import pytest

from tests import by_hand, small
from tiger_jax.config import Config, EvaluationConfig, ModelConfig, TrainConfig
from tiger_jax.data.sources import synthetic
from tiger_jax.data.splits import split
from tiger_jax.errors import DataError
from tiger_jax.evaluation.measure import measure
from tiger_jax.evaluation.ranking import Search, Trained, sample_users
from tiger_jax.evaluation.users import UserResults
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.ensemble import Ensemble
from tiger_jax.semantic_ids.collisions import extra_code
from tiger_jax.stages import evaluation
from tiger_jax.training import replicas
from tiger_jax.training.step import init_params


@pytest.mark.parametrize('num_users', [0, 150])
def test_popularity_metrics_equal_loops_on_every_split(tmp_path, num_users):
  dataset = synthetic.make(400, seed=0)
  config = Config(
    model=ModelConfig(name='popularity', max_history=3),
    train=TrainConfig(length_buckets=(3,)),
    evaluation=EvaluationConfig(batch_size=64, num_users=num_users),
  )
  session = Session.open(config, Inputs(dataset))
  evaluation.build(session, {}, 0, tmp_path)
  results = evaluation.load(tmp_path)
  validation, test = (
    sample_users(split(dataset, name), num_users, config.seed)
    for name in ('validation', 'test')
  )
  expected = {
    'validation': by_hand.popularity(dataset, validation, masked=False),
    'test': by_hand.popularity(dataset, test, masked=False),
    'test_masked': by_hand.popularity(dataset, test, masked=True),
  }
  # The values differ, so that the test fails if two splits are exchanged.
  assert len({values['ndcg@10'] for values in expected.values()}) == 3
  for name, values in expected.items():
    assert results['metrics'][name] == pytest.approx(values)
  del expected['test_masked']
  popularity = results['baselines']['popularity']
  assert popularity.keys() == expected.keys()
  for name, values in expected.items():
    assert popularity[name] == pytest.approx(values)
  # The next item depends on the previous item, so transitions beat popularity.
  transitions = results['baselines']['transitions']
  assert transitions.keys() == expected.keys()
  for name, values in expected.items():
    assert transitions[name]['ndcg@10'] > 1.5 * values['ndcg@10']

  best_validation, best_test = (
    synthetic.best_possible_recall(dataset, split(dataset, name), 10)
    for name in ('validation', 'test')
  )
  assert abs(best_validation - best_test) > 1e-3
  assert results['best_possible'] == {'recall@10': pytest.approx(best_test)}


@pytest.mark.whole_runs
def test_the_metrics_of_an_ensemble_are_not_a_mean_over_its_members(tmp_path):
  dataset = synthetic.make(400, seed=0)
  ids = extra_code(
    np.random.default_rng(0).integers(0, 8, (dataset.num_items, 2)),
    (8, 8),
    {'quantizer': 'none'},
  )
  config = Config(
    model=ModelConfig(**small.MODEL, max_history=3),
    train=TrainConfig(replicas=2, length_buckets=(3,)),
    evaluation=EvaluationConfig(num_beams=10, batch_size=64, ensemble=True),
  )
  session = Session.open(config, Inputs(dataset, ids))
  params = init_params(session.task, session.seeds)
  evaluation.build(session, params, 1, tmp_path)
  results = evaluation.load(tmp_path)
  assert not {'standard_error', 'replicas'} & set(results)
  search = Search.from_config(config.evaluation)
  examples = split(dataset, 'test')
  members = replicas.split(params, 2)
  together, first, second = (
    measure(Trained(session, x), examples, search)
    for x in (Ensemble(params), *members)
  )
  assert results['metrics']['test'] == pytest.approx(together[0])
  assert len({x[1].items.tobytes() for x in (together, first, second)}) == 3
  # The report is made from the lists of the ensemble.
  users = UserResults.load(tmp_path, dataset, '')
  assert users.items.shape[0] == users.rank.shape[0] == 1
  np.testing.assert_array_equal(users.items[0], together[1].items[:, :10])


@pytest.mark.parametrize(
  'content', ['{"metrics": {', '[1]', 'null', '[' * 100_000]
)
def test_damaged_metrics_raise_a_one_line_error(tmp_path, content):
  (tmp_path / 'metrics.json').write_text(content)
  with pytest.raises(DataError, match=r'metrics\.json is damaged') as error:
    evaluation.load(tmp_path)
  assert '\n' not in str(error.value)
