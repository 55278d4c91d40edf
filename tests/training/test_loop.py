"""Tests of the train loop without interruptions."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.running import (
  STEPS,
  Counter,
  Noisy,
  Run,
  assert_same_bits,
  digests,
  real_task,
)
from tiger_jax.errors import CheckpointError
from tiger_jax.runtime.writers import MetricsWriter


def test_a_run_trains_the_configured_number_of_steps(tmp_path):
  run = Run(tmp_path)
  assert run(Counter())['count'] == STEPS
  assert run.numbers == list(range(STEPS))
  assert run.ledger() == digests(range(STEPS))
  assert run.saved() == [5, STEPS]
  assert run.steps() == list(range(1, STEPS + 1))
  for line in run.lines():
    assert line['loss'] == line['step']
    assert line['seen'] == line['step'] - 1


def test_a_finished_run_does_not_train(tmp_path):
  run = Run(tmp_path)
  run(Counter())
  lines = run.lines()
  assert run(Counter())['count'] == STEPS
  assert run.numbers == list(range(STEPS))
  assert run.lines() == lines
  assert run.ledger() == digests(range(STEPS))


@pytest.mark.parametrize('save_every', [3, 10, 50])
def test_the_last_step_is_always_saved(tmp_path, save_every):
  evaluated = []

  def evaluate(params):
    evaluated.append(int(params['count']))
    return {'score': 0.0}

  run = Run(tmp_path, save_every=save_every, evaluate=evaluate)
  run(Counter())
  assert run.saved()[-1] == STEPS
  expected = {3: [3, 6, 9, 10], 10: [10], 50: [10]}
  assert evaluated == expected[save_every]
  assert run.steps('score') == evaluated


def test_a_log_line_has_the_means_since_the_previous_line(tmp_path):
  run = Run(tmp_path, log_every=4, save_every=100)
  run(Counter())
  assert [(x['step'], x['loss']) for x in run.lines()] == [
    (4, 2.5),
    (8, 6.5),
    (10, 9.5),
  ]
  names = {'loss', 'gradient_norm', 'seen', 'learning_rate'}
  assert names | {'examples_per_second'} <= run.lines()[0].keys()


def test_the_speed_excludes_evaluations_and_saves(tmp_path):
  """The speed counts only the time of steps and batches."""

  def slow(params):
    time.sleep(0.3)
    return {'score': 0.0}

  def read(start, stop):
    for stack in run.counting(start, stop):
      time.sleep(0.05)
      yield stack

  run = Run(tmp_path, save_every=2, evaluate=slow)
  run(Counter(), read)
  speeds = {
    x['step']: x['examples_per_second'] for x in run.lines() if 'loss' in x
  }
  # A step has two examples and takes at least 0.05 s.
  assert max(speeds.values()) <= 40
  # There is an evaluation before each of these steps.
  assert np.median([speeds[step] for step in (3, 5, 7, 9)]) > 8


def scripted(scores):
  """Returns an evaluation that looks up the score of a step in `scores`."""
  return lambda params: {
    'other': float(params['count']),
    'score': scores[int(params['count'])],
  }


@pytest.mark.parametrize('best', [2, 4, 6, 8, 10])
def test_the_best_checkpoint_is_kept(tmp_path, best):
  scores = dict.fromkeys((2, 4, 6, 8, 10), 0.1) | {best: 0.9}
  run = Run(
    tmp_path, save_every=2, evaluate=scripted(scores), best_metric='score'
  )
  # The finished run returns the same parameters.
  for _ in range(2):
    assert run(Counter())['count'] == STEPS
    assert run.saved() == sorted({best, 6, 8, 10})
    assert run.best() == best


class Walk(Counter):
  """A task whose parameter is a sum of random numbers."""

  def after_update(self, params, tables, seen, step, rng):
    return {'count': params['count'] + jax.random.uniform(rng)}


def test_stacks_and_single_batches_give_equal_results(tmp_path):
  single = Run(tmp_path / 'single')
  params = single(Walk())
  run = Run(tmp_path / 'stacks', steps_per_call=4)
  assert_same_bits(run(Walk()), params)
  # Logs and checkpoints are written at the end of a stack.
  assert run.steps() == [4, 8, 10]
  assert run.lines()[0]['seen'] == np.mean([0, 1, 2, 3])
  draws = [line['draw'] for line in single.lines()]
  np.testing.assert_allclose(
    run.lines()[1]['draw'], np.mean(draws[4:8]), rtol=1e-6
  )
  assert run.saved() == [8, STEPS]
  assert run.ledger() == single.ledger() == digests(range(STEPS))


def test_replicas_equal_single_runs(tmp_path):
  def single(seed):
    run = Run(tmp_path / str(seed), seeds=[seed])
    return run(*real_task(widths=(20,)))

  seeds = [1, 2]
  run = Run(tmp_path / 'all', seeds=seeds)
  params = run(*real_task(widths=(20,)))
  assert params['table'].shape == (2, 600, 4)
  for i, seed in enumerate(seeds):
    np.testing.assert_allclose(
      params['table'][i], single(seed)['table'], rtol=1e-5, atol=1e-6
    )
  # The log has the mean over the replicas.
  losses = [
    [x['loss'] for x in Run(tmp_path / str(seed)).lines()] for seed in seeds
  ]
  logged = [line['loss'] for line in run.lines()]
  np.testing.assert_allclose(logged, np.mean(losses, 0), rtol=1e-5)
  assert run.ledger() == Run(tmp_path / '1').ledger()


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
  run = Run(tmp_path)
  task, read = real_task()
  run(task, read, num_steps=2)
  with pytest.raises(CheckpointError, match='params/table') as error:
    run(Noisy(task.tables['events'], dim=8), read)
  assert '\n' not in str(error.value)
  with pytest.raises(CheckpointError, match=r'seed is absent, expected 7'):
    run(task, read, identity={'seed': 7})


def test_another_model_is_refused_before_its_initialization(tmp_path):
  class Late(Counter):
    def init(self, rng):
      raise AssertionError('init was called')

  Run(tmp_path)(Counter(), identity={'width': 1})
  with pytest.raises(CheckpointError, match='width is 1, expected 2'):
    Run(tmp_path)(Late(), identity={'width': 2})


def test_a_full_disk_is_a_one_line_error(tmp_path, monkeypatch):
  def write(*unused):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(MetricsWriter, 'write', write)
  with pytest.raises(CheckpointError) as error:
    Run(tmp_path)(Counter())
  message = str(error.value)
  assert 'No space left on device' in message
  assert str(tmp_path) in message
  assert '\n' not in message


def test_the_task_uses_the_given_tables(tmp_path):
  """The tables are an argument of the jitted step."""
  task, read = real_task()
  params = [
    Run(tmp_path / str(keep))(Noisy(task.tables['events'], keep), read)
    for keep in (0.0, 1.0)
  ]
  assert not np.allclose(params[0]['table'], params[1]['table'], atol=1e-2)


def test_random_draws_depend_on_seed_and_step_only(tmp_path):
  def draws(name, **changes):
    run = Run(tmp_path / name, **changes)
    run(Counter())
    return [line['draw'] for line in run.lines()]

  first = draws('first')
  assert len(set(first)) == STEPS
  assert draws('again', save_every=3) == first
  assert not set(draws('other', seed=2)) & set(first)


def test_every_step_trains_on_its_batch(tmp_path):
  """Every batch is used once, in order, even after an interruption."""

  class Trace(Counter):
    """A task whose parameter lists the numbers of its batches."""

    def init(self, rng):
      return {'seen': jnp.full(STEPS, -1.0)}

    def loss(self, params, tables, batch, rng):
      return 0 * params['seen'].sum() + 1, {}, batch[0]

    def after_update(self, params, tables, seen, step, rng):
      return {'seen': params['seen'].at[step].set(seen)}

  for size in (1, 4):
    run = Run(tmp_path / str(size), steps_per_call=size)
    with pytest.raises(KeyboardInterrupt):
      run(Trace(), run.stopping(7, error=KeyboardInterrupt()))
    assert run(Trace())['seen'].tolist() == list(range(STEPS))
