"""The train loop, on a task that compiles at once.

Run as a program, this file trains and kills itself on the way.
"""

import gc
import hashlib
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config import OptimizerConfig
from tiger_jax.data import batches, synthetic
from tiger_jax.data.splits import split
from tiger_jax.errors import CheckpointError, NumbersError, Preempted
from tiger_jax.training import loop
from tiger_jax.training.checkpoint import Checkpoints
from tiger_jax.training.sharding import make_mesh
from tiger_jax.training.writers import MetricsWriter

STEPS = 10


class Noisy:
  """A vector per item, learnt from a random half of every history."""

  def __init__(self, keep=0.5, dim=4):
    self.tables = np.float32(keep)
    self.dim = dim

  def init(self, rng):
    return {'table': jax.random.normal(rng, (600, self.dim))}

  def loss(self, params, tables, batch, rng):
    x = params['table'][batch.history] * (batch.history >= 0)[..., None]
    x = jnp.where(jax.random.bernoulli(rng, tables, x.shape), x, 0).sum(axis=1)
    loss = jnp.square(x - params['table'][batch.target]).mean()
    return loss, {'double': 2 * loss}, ()

  def after_update(self, params, tables, seen, step, rng):
    noise = jax.random.normal(rng, params['table'].shape)
    return {'table': params['table'] + 1e-3 * noise}


class Counter:
  """Its parameter, and its loss, is the number of steps done."""

  tables = ()

  def __init__(self, bad_loss_at=None, bad_params_at=None):
    self.bad_loss_at = bad_loss_at
    self.bad_params_at = bad_params_at

  def init(self, rng):
    return {'count': jnp.zeros(())}

  def loss(self, params, tables, batch, rng):
    steps = jax.lax.stop_gradient(params['count']) + 1
    bad = steps == (self.bad_loss_at or 0)
    loss = jnp.where(bad, jnp.nan, steps) + 0 * params['count']
    metrics = {'seen': jnp.mean(batch), 'draw': jax.random.uniform(rng)}
    return loss, metrics, batch

  def after_update(self, params, tables, seen, step, rng):
    bad = step + 1 == (self.bad_params_at or 0)
    return {'count': jnp.where(bad, jnp.inf, step + 1.0)}


class Run:
  """One workdir; every call is what a process would do."""

  def __init__(self, workdir, **settings):
    self.workdir = Path(workdir)
    self.settings = settings
    self.ledger = []

  def __call__(self, task, source=None, num_steps=STEPS, **changes):
    settings = {'log_every': 1, 'save_every': 5, 'seed': 1}
    settings |= self.settings | changes
    schedule = loop.Schedule(
      num_steps,
      settings.pop('log_every'),
      settings.pop('save_every'),
      settings.pop('scanned', False),
    )
    return loop.train(
      task,
      source or self.counting,
      schedule,
      OptimizerConfig(learning_rate=0.1, warmup_steps=2),
      mesh=make_mesh(jax.devices()[:1]),
      folder=self.workdir / 'checkpoints',
      writer=MetricsWriter(self.workdir),
      label='train',
      **settings,
    )

  def counting(self, start, stop):
    for step in range(start, stop):
      self.ledger.append(step)
      yield np.full(2, step, np.float32)

  def lines(self):
    text = (self.workdir / 'metrics.jsonl').read_text()
    return [json.loads(line) for line in text.splitlines()]

  def steps(self, name='loss'):
    return [line['step'] for line in self.lines() if name in line]

  def saved(self):
    with Checkpoints(self.workdir / 'checkpoints') as checkpoints:
      return checkpoints.latest_step()


def real_batches(ledger, die_after=None, workdir=None):
  """Batches of the synthetic shop; what is consumed is written to a file."""
  dataset = synthetic.make(30, 0)
  source = batches.TrainBatches(
    dataset, split(dataset, 'train'), 16, (5, 10, 20), 1
  )

  def read(start, stop):
    for step, batch in enumerate(batches.prefetch(source, start, stop), start):
      digest = hashlib.sha256(b''.join(x.tobytes() for x in batch)).hexdigest()
      with ledger.open('a') as file:
        file.write(f'{step} {batch.history.shape[1]} {digest}\n')
      yield batch
      if die_after and step + 1 == die_after:
        while not (workdir / 'checkpoints' / '5').exists():
          time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

  return read


def consumed(ledger):
  """Returns the batch of every step as it was consumed last."""
  rows = (line.split(' ', 1) for line in ledger.read_text().splitlines())
  return {int(step): batch for step, batch in rows}


def assert_same_bits(tree, expected):
  for a, b in zip(
    jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True
  ):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def without_time(lines):
  return [{k: v for k, v in line.items() if k != 'time'} for line in lines]


@pytest.fixture(name='whole', scope='module')
def _whole(tmp_path_factory):
  """An uninterrupted run: its parameters, ledger and metrics."""
  run = Run(tmp_path_factory.mktemp('whole'))
  ledger = run.workdir / 'ledger'
  params = run(Noisy(), real_batches(ledger))
  return params, consumed(ledger), without_time(run.lines())


def test_kill_9_and_go_on_bit_for_bit(tmp_path, whole):
  die_after = 7
  params, batches_seen, lines = whole
  workdir = tmp_path / 'run'
  root = Path(__file__).parents[2]
  done = subprocess.run(
    [sys.executable, __file__, workdir, str(die_after)],
    env=os.environ | {'PYTHONPATH': str(root)},
    stderr=subprocess.DEVNULL,
    check=False,
  )
  assert done.returncode == -signal.SIGKILL
  assert list(consumed(workdir / 'ledger')) == list(range(die_after))
  run = Run(workdir)
  assert run.saved() == 5
  # A killed process may leave half a line.
  with (workdir / 'metrics.jsonl').open('a') as file:
    file.write('{"stage": "train", "st')
  again = workdir / 'ledger_again'
  resumed = run(Noisy(), real_batches(again))
  assert_same_bits(resumed, params)
  assert list(consumed(again)) == list(range(5, STEPS))
  seen = consumed(workdir / 'ledger')
  assert {**seen, **consumed(again)} == batches_seen
  assert all(batches_seen[step] == batch for step, batch in seen.items())
  assert without_time(run.lines()) == lines


@pytest.mark.parametrize('at', [1, 5, 7])
def test_sigterm_saves_and_the_next_call_goes_on(tmp_path, whole, at):
  params, batches_seen, lines = whole
  run = Run(tmp_path)
  ledger = tmp_path / 'ledger'
  read = real_batches(ledger)

  def asked_to_stop(start, stop):
    for step, batch in enumerate(read(start, stop), start=start + 1):
      if step == at:
        os.kill(os.getpid(), signal.SIGTERM)
      yield batch

  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(Preempted, match=f'saved at step {at};') as error:
    run(Noisy(), asked_to_stop)
  assert error.value.exit_code == 42
  assert signal.getsignal(signal.SIGTERM) is before
  assert list(consumed(ledger)) == list(range(at))
  assert run.saved() == at
  again = tmp_path / 'again'
  assert_same_bits(run(Noisy(), real_batches(again)), params)
  assert list(consumed(again)) == list(range(at, STEPS))
  assert consumed(ledger) | consumed(again) == batches_seen
  assert without_time(run.lines()) == lines


def test_sigterm_between_two_log_lines(tmp_path):
  """Metrics not written yet are written before the loop is left."""
  run = Run(tmp_path, log_every=4)

  def asked_to_stop(start, stop):
    for batch in run.counting(start, stop):
      if batch[0] == 5:
        os.kill(os.getpid(), signal.SIGTERM)
      yield batch

  with pytest.raises(Preempted):
    run(Counter(), asked_to_stop)
  assert run.saved() == 6
  run(Counter())
  assert run.steps() == [4, 5, 6, 8, 10]


def test_sigterm_in_the_last_step_does_not_lose_it(tmp_path):
  run = Run(tmp_path)

  def asked_to_stop(start, stop):
    for batch in run.counting(start, stop):
      if batch[0] == STEPS - 1:
        os.kill(os.getpid(), signal.SIGTERM)
      yield batch

  try:
    assert run(Counter(), asked_to_stop)['count'] == STEPS
  except Preempted:
    pass
  assert run.saved() == STEPS
  assert run(Counter())['count'] == STEPS
  assert run.ledger == list(range(STEPS))


def test_exactly_so_many_steps(tmp_path):
  run = Run(tmp_path)
  assert run(Counter())['count'] == STEPS
  assert run.ledger == list(range(STEPS))
  assert run.saved() == STEPS
  assert run.steps() == list(range(1, STEPS + 1))
  for line in run.lines():
    assert line['loss'] == line['step']
    assert line['seen'] == line['step'] - 1


def test_a_finished_run_takes_no_step(tmp_path):
  run = Run(tmp_path)
  run(Counter())
  lines = run.lines()
  assert run(Counter())['count'] == STEPS
  assert run.ledger == list(range(STEPS))
  assert run.lines() == lines


@pytest.mark.parametrize('save_every', [3, 10, 50])
def test_the_last_step_is_always_saved(tmp_path, save_every):
  looked_at = []

  def evaluate(params):
    looked_at.append(int(params['count']))
    return {'score': 0.0}

  run = Run(tmp_path, save_every=save_every, evaluate=evaluate)
  run(Counter())
  assert run.saved() == STEPS
  expected = {3: [3, 6, 9, 10], 10: [10], 50: [10]}
  assert looked_at == expected[save_every]
  assert run.steps('score') == looked_at


def test_log_lines_are_means_since_the_last(tmp_path):
  run = Run(tmp_path, log_every=4, save_every=100)
  run(Counter())
  assert [(x['step'], x['loss']) for x in run.lines()] == [
    (4, 2.5),
    (8, 6.5),
    (10, 9.5),
  ]
  assert {'loss', 'gradient_norm', 'seen'} <= run.lines()[0].keys()


def test_lines_past_the_checkpoint_are_written_again(tmp_path):
  run = Run(tmp_path)

  def fails(start, stop):
    for batch in run.counting(start, stop):
      if batch[0] == 7:
        raise KeyboardInterrupt
      yield batch

  with pytest.raises(KeyboardInterrupt):
    run(Counter(), fails)
  assert run.steps() == [1, 2, 3, 4, 5, 6, 7]
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"stage": "semantic_ids", "step": 99}\n')
    file.write('{"stage": "train", "step": 8, "lo')
  assert run(Counter())['count'] == STEPS
  lines = [line for line in run.lines() if line['stage'] == 'train']
  assert [line['step'] for line in lines] == list(range(1, STEPS + 1))
  assert [line['loss'] for line in lines] == list(range(1, STEPS + 1))
  assert {'stage': 'semantic_ids', 'step': 99} in run.lines()


@pytest.mark.parametrize('log_every', [1, 100])
@pytest.mark.parametrize('bad_at', [6, 8, 10])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, log_every, bad_at):
  run = Run(tmp_path, log_every=log_every)
  for _ in range(2):  # To start it again does not help, nor harm.
    with pytest.raises(NumbersError, match=f'at step {bad_at};') as error:
      run(Counter(bad_loss_at=bad_at))
    assert '\n' not in str(error.value)
    assert error.value.exit_code == 5
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
      assert checkpoints.latest_step() == 5
    assert all(np.isfinite(line['loss']) for line in run.lines())
  assert run(Counter())['count'] == STEPS


def test_a_loss_that_is_not_finite_before_the_first_checkpoint(tmp_path, capfd):
  run = Run(tmp_path)
  with pytest.raises(NumbersError, match='loss is nan at step 2'):
    run(Counter(bad_loss_at=2))
  assert run.saved() is None
  # The progress line is ended: the message gets a line of its own.
  assert capfd.readouterr().err.endswith('\n')


@pytest.mark.parametrize('bad_at', [8, 10])
def test_parameters_that_are_not_finite_are_not_saved(tmp_path, bad_at):
  """The loss of that step is fine, and there may be no next one."""
  run = Run(tmp_path, log_every=100)
  with pytest.raises(NumbersError):
    run(Counter(bad_params_at=bad_at))
  assert run.saved() == 5


def scripted(scores):
  """Returns an evaluation that gives each step its score."""
  return lambda params: {
    'other': float(params['count']),
    'score': scores[int(params['count'])],
  }


@pytest.mark.parametrize('best', [2, 4, 6, 8, 10])
def test_the_best_checkpoint_is_returned(tmp_path, best):
  scores = dict.fromkeys((2, 4, 6, 8, 10), 0.1) | {best: 0.9}
  run = Run(
    tmp_path, save_every=2, evaluate=scripted(scores), best_metric='score'
  )
  assert run(Counter())['count'] == best
  # And again, when there is nothing left to do.
  assert run(Counter())['count'] == best
  with Checkpoints(tmp_path / 'checkpoints', 'score') as checkpoints:
    assert checkpoints.best_step() == best
    assert checkpoints.latest_step() == STEPS


def test_without_a_metric_the_last_is_returned(tmp_path):
  scores = {2: 0.9, 4: 0.1, 6: 0.1, 8: 0.1, 10: 0.0}
  run = Run(tmp_path, save_every=2, evaluate=scripted(scores))
  assert run(Counter())['count'] == STEPS


@pytest.mark.parametrize('stop_at', [5, 6])
def test_the_best_survives_a_restart(tmp_path, stop_at):
  scores = {2: 0.2, 4: 0.9, 6: 0.3, 8: 0.4, 10: 0.5}
  run = Run(
    tmp_path, save_every=2, evaluate=scripted(scores), best_metric='score'
  )

  def asked_to_stop(start, stop):
    for batch in run.counting(start, stop):
      if batch[0] + 1 == stop_at:
        os.kill(os.getpid(), signal.SIGTERM)
      yield batch

  with pytest.raises(Preempted):
    run(Counter(), asked_to_stop)
  assert run.saved() == stop_at
  assert run(Counter())['count'] == 4
  assert run.ledger == list(range(STEPS))
  assert run.steps('score') == [2, 4, 6, 8, 10]
  folders = {path.name for path in (tmp_path / 'checkpoints').iterdir()}
  assert folders == {'4', '10'}


def stacked(run, size):
  """Returns what `run` counts, so many steps at a time."""

  def read(start, stop):
    steps = list(run.counting(start, stop))
    for i in range(0, len(steps), size):
      yield np.stack(steps[i : i + size])

  return read


def test_stacks_take_the_steps_that_batches_take(tmp_path):
  class Walk(Counter):
    """Its parameter adds up random numbers, whatever the stacks."""

    def after_update(self, params, tables, seen, step, rng):
      return {'count': params['count'] + jax.random.uniform(rng) + seen[0]}

  single = Run(tmp_path / 'single')
  params = single(Walk())
  run = Run(tmp_path / 'stacks', scanned=True)
  found = run(Walk(), stacked(run, 4))
  np.testing.assert_allclose(found['count'], params['count'], rtol=1e-6)
  # Looks are taken at the end of the stack in which they fall due.
  assert run.steps() == [4, 8, 10]
  assert run.lines()[0]['seen'] == np.mean([0, 1, 2, 3])
  draws = [line['draw'] for line in single.lines()]
  np.testing.assert_allclose(
    run.lines()[1]['draw'], np.mean(draws[4:8]), rtol=1e-6
  )
  with Checkpoints(run.workdir / 'checkpoints') as checkpoints:
    assert checkpoints.latest_step() == STEPS


def test_a_stack_is_finished_before_a_stop(tmp_path):
  run = Run(tmp_path, scanned=True, save_every=100)

  def asked_to_stop(start, stop):
    for stack in stacked(run, 3)(start, stop):
      if stack[0, 0] == 3:
        os.kill(os.getpid(), signal.SIGTERM)
      yield stack

  with pytest.raises(Preempted, match='saved at step 6;'):
    run(Counter(), asked_to_stop)
  assert run.saved() == 6
  assert run(Counter(), stacked(run, 3))['count'] == STEPS
  assert run.steps() == [3, 6, 9, 10]


@pytest.mark.parametrize('bad_at', [6, 8, 10])
def test_the_step_within_a_stack_that_is_not_finite(tmp_path, bad_at):
  run = Run(tmp_path, scanned=True)
  with pytest.raises(NumbersError, match=f'at step {bad_at};'):
    run(Counter(bad_loss_at=bad_at), stacked(run, 4))


# Orbax complains of reads that it left alone when one of them failed.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_checkpoint_of_another_model(tmp_path):
  run = Run(tmp_path)
  read = real_batches(tmp_path / 'ledger')
  run(Noisy(), read, num_steps=2)
  with pytest.raises(CheckpointError) as error:
    run(Noisy(dim=8), read)
  assert '\n' not in str(error.value)
  del error
  time.sleep(0.1)
  gc.collect()


def test_tables_reach_the_task(tmp_path):
  """They are an argument of the step, so that a new one compiles nothing."""
  read = real_batches(tmp_path / 'ledger')
  drop_all = Run(tmp_path / 'none')(Noisy(0.0), read)
  drop_none = Run(tmp_path / 'all')(Noisy(1.0), read)
  assert not np.allclose(drop_all['table'], drop_none['table'], atol=1e-2)


def test_the_seed_and_the_step_are_all_the_randomness(tmp_path):
  def draws(name, **changes):
    run = Run(tmp_path / name, **changes)
    run(Counter())
    return [line['draw'] for line in run.lines()]

  first = draws('first')
  assert len(set(first)) == STEPS
  assert draws('again', save_every=3) == first
  assert not set(draws('other', seed=2)) & set(first)


if __name__ == '__main__':
  jax.config.update('jax_platforms', 'cpu')
  # As in tests/conftest.py: sums are split over threads by their number.
  jax.config.update('jax_num_cpu_devices', 8)
  folder = Path(sys.argv[1])
  folder.mkdir(parents=True)
  Run(folder)(
    Noisy(), real_batches(folder / 'ledger', int(sys.argv[2]), folder)
  )
