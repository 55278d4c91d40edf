"""Tests that the checkpoint and the replica are selected on validation only."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sessions import with_parts
from tests.walks import make_dataset
from tiger_jax.config import (
  Config,
  DatasetConfig,
  EvaluationConfig,
  ModelConfig,
  OptimizerConfig,
  TrainConfig,
)
from tiger_jax.data.splits import split
from tiger_jax.evaluation.measure import measure
from tiger_jax.evaluation.ranking import Search, Trained
from tiger_jax.interfaces import Recommendations
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.stages import evaluation, training

NUM_USERS = 16
# The first checkpoint has the best validation NDCG. The second has the best
# validation recall. The third and last has the best test NDCG.
STEPS = (2, 4, 6)
CONFIG = Config(
  dataset=DatasetConfig(name='files'),
  model=ModelConfig(name='sasrec', max_history=4),
  train=TrainConfig(
    batch_size=8,
    steps=STEPS[-1],
    evaluate_every=2,
    evaluate_users=NUM_USERS,
    length_buckets=(4,),
    optimizer=OptimizerConfig(learning_rate=0.1),
  ),
  evaluation=EvaluationConfig(batch_size=8),
)


class Task:
  """A task with two parameters: `count`, the step, and a random `share`."""

  tables = ()

  def __init__(self, same_for_all):
    self.same_for_all = same_for_all

  def init(self, rng):
    share = 0.5 if self.same_for_all else jax.random.uniform(rng)
    return {'count': jnp.zeros(()), 'share': jnp.asarray(share)}

  def loss(self, params, tables, batch, rng):
    return -params['share'], {}, ()

  def after_update(self, params, tables, seen, step, rng):
    return params | {'count': step + 1.0}


class Scripted:
  """A retriever with a fixed quality at every checkpoint of `Task`.

  At step 2, the parameter `share` is the share of the users who get the
  validation target first and the test target second. At step 4, the validation
  target is tenth. At step 6, the test target is first.
  """

  def __init__(self, dataset):
    self.targets = dataset.history.reshape(NUM_USERS, -1)[:, -2:]

  def recommend(self, params, batch, k, lists=None):
    user = np.asarray(batch.user)
    count, share = (float(params[name]) for name in ('count', 'share'))
    validation, test = self.targets[user].T
    items = np.full((len(user), 10), -1, np.int32)
    if count == 2:
      items[:, 0], items[:, 1] = validation, test
      items[user >= share * NUM_USERS] = -1
    elif count == 4:
      items[:, 9] = validation
    elif count == 6:
      items[:, 0] = test
    scores = np.zeros(items.shape, np.float32)
    return Recommendations(*map(jnp.asarray, (items, scores, items >= 0)))


@pytest.fixture(name='inputs', scope='module')
def _inputs():
  num_items = NUM_USERS * 6
  walks = np.random.default_rng(0).permutation(num_items).reshape(-1, 6)
  return Inputs(make_dataset(walks, num_items))


@pytest.fixture(name='run')
def _run(inputs, tmp_path):
  """Returns a function that trains, and returns the session and the log."""

  def train(config, same_for_all=True):
    session = Session.open(config, inputs)
    session = with_parts(
      session, retriever=Scripted(inputs.dataset), task=Task(same_for_all)
    )
    writer = MetricsWriter(tmp_path)
    training.build(session, tmp_path, writer)
    writer.close()
    text = (tmp_path / 'metrics.jsonl').read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    logged = [line for line in lines if 'ndcg@10' in line]
    assert tuple(line['step'] for line in logged) == STEPS
    return session, logged

  return train


def evaluated(session, folder):
  evaluation.build(session, *training.load(session, folder), folder)
  return evaluation.load(folder)


def shares(params):
  """Returns the share of users with recommendations at step 2, by replica."""
  return np.ceil(np.asarray(params['share']) * NUM_USERS) / NUM_USERS


def test_validation_ndcg_selects_the_checkpoint(run, tmp_path):
  session, logged = run(CONFIG)
  params, best = training.load(session, tmp_path)
  assert best == 0
  share = shares(params)
  assert 0.5 < share < 1
  tenth = 1 / np.log2(11)
  assert [x['ndcg@10'] for x in logged] == pytest.approx([share, tenth, 0])
  assert [x['recall@10'] for x in logged] == pytest.approx([share, 1, 0])
  assert params['count'] == 2
  # Selection on the test split would choose the last checkpoint.
  last = {'count': np.float32(6), 'share': params['share']}
  test = split(session.inputs.dataset, 'test')
  values, _ = measure(Trained(session, last), test, Search())
  assert values['ndcg@10'] == 1
  results = evaluated(session, tmp_path)['metrics']
  assert results['validation']['ndcg@10'] == pytest.approx(share)
  assert results['test']['ndcg@10'] == pytest.approx(share / np.log2(3))


def test_validation_ndcg_selects_the_second_of_two_replicas(run, tmp_path):
  train = dataclasses.replace(CONFIG.train, replicas=2)
  config = dataclasses.replace(CONFIG, train=train, seed=1)
  session, logged = run(config, same_for_all=False)
  params, best = training.load(session, tmp_path)
  first, second = shares(params)
  assert 0 < first < second < 1
  assert best == 1
  chosen = training.load_served(session, tmp_path).params
  assert chosen['share'] == params['share'][1]
  assert logged[0]['ndcg@10/replica_0'] == pytest.approx(first)
  assert logged[0]['ndcg@10/replica_1'] == pytest.approx(second)
  mean, error = (first + second) / 2, (second - first) / 2
  assert logged[0]['ndcg@10'] == pytest.approx(mean)
  results = evaluated(session, tmp_path)
  assert results['replicas']['best_on_validation'] == 1
  assert results['replicas']['seed'] == [1, 2]
  for i, share in enumerate((first, second)):
    assert results['replicas']['validation'][i]['ndcg@10'] == share
    assert results['replicas']['test'][i]['recall@10'] == share
  for name in ('validation', 'test', 'test_masked'):
    assert results['metrics'][name]['recall@10'] == pytest.approx(mean)
    # The standard error of two values is half of their difference.
    standard_error = results['standard_error'][name]['recall@10']
    assert standard_error == pytest.approx(error)
