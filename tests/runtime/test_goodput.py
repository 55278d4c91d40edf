"""Tests that every second of a run is counted in exactly one phase."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.running import STEPS, Counter, Run
from tiger_jax.errors import NumbersError
from tiger_jax.runtime import goodput
from tiger_jax.runtime.goodput import Stopwatch
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.training import loop
from tiger_jax.training.schedule import Rewind


class Clock:
  """A clock that a test sets."""

  def __init__(self):
    self.now = 100.0

  def perf_counter(self):
    return self.now


@pytest.fixture(name='clock')
def _clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(goodput, 'time', clock)
  return clock


@pytest.fixture(name='watch')
def _watch(clock):
  watch = Stopwatch()
  yield watch
  watch.close()


def compiles(seconds):
  """Reports a finished compilation to the listeners of JAX."""
  jax.monitoring.record_event_duration_secs(
    '/jax/core/compile/backend_compile_duration', seconds
  )


def test_phases_can_be_nested(watch, clock):
  clock.now += 1
  with watch.phase('step'):
    clock.now += 2
    with watch.phase('data'):
      clock.now += 4
      with watch.phase('step'):
        clock.now += 8
      clock.now += 16
    clock.now += 32
  clock.now += 64
  assert watch.seconds() == {
    'other': 65.0, 'step': 42.0, 'data': 20.0, 'wall': 127.0,
  }  # fmt: skip


def test_an_error_ends_the_current_phases(watch, clock):
  with pytest.raises(KeyError):
    with watch.phase('step'), watch.phase('data'):
      clock.now += 1
      raise KeyError
  clock.now += 2
  assert watch.seconds() == {
    'other': 2.0, 'data': 1.0, 'step': 0.0, 'wall': 3.0,
  }  # fmt: skip


def test_the_seconds_of_an_open_phase_can_be_read(watch, clock):
  with watch.phase('step'):
    clock.now += 1
    assert watch.seconds()['step'] == 1.0
    clock.now += 1
    assert watch.seconds() == {'other': 0.0, 'step': 2.0, 'wall': 2.0}


def test_compilation_is_moved_to_its_own_phase(watch, clock):
  with watch.phase('evaluate'):
    clock.now += 10
    compiles(3.0)
    clock.now += 1
  with watch.phase('compile'):
    clock.now += 5
    compiles(4.0)  # The phase already counts this time.
  clock.now += 2
  compiles(1.5)
  assert watch.seconds() == {
    'evaluate': 8.0, 'compile': 9.5, 'other': 0.5, 'wall': 18.0,
  }  # fmt: skip


def test_other_events_are_not_compilation(watch, clock):
  clock.now += 3
  jax.monitoring.record_event_duration_secs('/jax/core/other_duration', 2.0)
  assert watch.seconds() == {'other': 3.0, 'wall': 3.0}


def test_a_closed_stopwatch_does_not_count(clock):
  watch = Stopwatch()
  clock.now += 1
  watch.close()
  clock.now += 5
  compiles(0.5)
  with watch.phase('step'):
    clock.now += 5
  assert watch.seconds() == {'other': 1.0, 'wall': 1.0}


def test_a_real_compilation_is_counted():
  """Fails if a new version of JAX renames the event of a compilation."""
  watch = Stopwatch()

  def function(x):
    for i in range(40):
      x = jnp.sin(x @ x + i)
    return x

  # The program has a random constant, so it is not in the compilation cache.
  salt = np.random.default_rng().normal(size=(3, 3)).astype(np.float32)
  with watch.phase('evaluate'):
    start = time.perf_counter()
    jax.jit(lambda x: function(x + salt)).lower(salt).compile()
    elapsed = time.perf_counter() - start
  watch.close()
  seconds = watch.seconds()
  assert seconds['compile'] > 0.005
  assert seconds['evaluate'] + seconds['compile'] == pytest.approx(
    elapsed, rel=0.05
  )
  assert seconds['evaluate'] > 0


def test_the_summary_has_the_largest_share_first():
  seconds = {'other': 1.0, 'step': 7.0, 'data': 2.0, 'wall': 10.0}
  text = goodput.summary(seconds)
  assert text == '10.0 s: step 70.0%, data 20.0%, other 10.0%'
  goodput.summary({'other': 0.0, 'wall': 0.0})


def assert_adds_up(seconds):
  phases = sum(value for name, value in seconds.items() if name != 'wall')
  assert phases == pytest.approx(seconds['wall'], rel=1e-6)


@pytest.fixture(name='simulated')
def _simulated(clock, monkeypatch):
  """The clock of runs; a compilation takes none of its time."""
  monkeypatch.setattr(goodput, '_COMPILATION', 'none')
  return clock


def test_the_phases_of_a_run_add_up_to_its_time(
  simulated, tmp_path, capsys, monkeypatch
):
  class SlowCheckpoints(loop.Checkpoints):
    def __init__(self, *args, **options):
      simulated.now += 2
      super().__init__(*args, **options)

  def evaluate(params):
    simulated.now += 4
    return {'score': 0.0}

  def read(start, stop):
    for stack in run.counting(start, stop):
      simulated.now += 1
      yield stack

  class Writer(MetricsWriter):
    def write(self, *args):
      simulated.now += 0.25
      super().write(*args)

  monkeypatch.setattr(loop, 'Checkpoints', SlowCheckpoints)
  run = Run(tmp_path, evaluate=evaluate, writer=Writer(tmp_path))
  start = simulated.now
  run(Counter(), read)
  (line,) = run.goodput()
  assert (line['from'], line['to']) == (0, STEPS)
  seconds = line['seconds']
  assert seconds['data'] == STEPS
  assert seconds['evaluate'] == 2 * 4
  # Opening the checkpoints, and the metrics of each step and evaluation.
  assert seconds['other'] == 2 + 0.25 * (STEPS + 2)
  assert seconds['wall'] == simulated.now - start
  assert_adds_up(seconds)
  assert {'compile', 'step', 'save'} <= seconds.keys()
  assert min(seconds.values()) >= 0
  assert f'train: {seconds["wall"]:.1f} s: ' in capsys.readouterr().out


def test_every_call_of_train_writes_a_line(tmp_path):
  run = Run(tmp_path)
  with pytest.raises(KeyboardInterrupt):
    run(Counter(), run.stopping(8, error=KeyboardInterrupt()))
  with pytest.raises(NumbersError):
    run(Counter(at=9))
  run(Counter())
  run(Counter())
  lines = run.goodput()
  assert [(line['from'], line['to']) for line in lines] == [
    (0, 7), (5, 9), (5, 10), (10, 10),
  ]  # fmt: skip
  for line in lines:
    assert_adds_up(line['seconds'])


def test_every_rewind_writes_a_line(simulated, tmp_path):
  """The lines cover the whole time, without overlap."""

  def read(start, stop):
    for stack in run.counting(start, stop):
      simulated.now += 1
      yield stack

  run = Run(tmp_path, save_every=2, rewind=Rewind(back=2, skip=3))
  start = simulated.now
  run(Counter(of=[6]), read)
  lines = run.goodput()
  assert [(line['from'], line['to']) for line in lines] == [(0, 7), (4, STEPS)]
  for line in lines:
    assert_adds_up(line['seconds'])
  wall = sum(line['seconds']['wall'] for line in lines)
  assert wall == simulated.now - start > STEPS


def test_a_failed_write_is_ignored(tmp_path):
  (tmp_path / 'goodput.jsonl').mkdir()
  run = Run(tmp_path)
  with pytest.raises(NumbersError, match='loss is not finite at step 7'):
    run(Counter(at=7))
  assert run(Counter())['count'] == STEPS
