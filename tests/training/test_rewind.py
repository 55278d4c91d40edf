"""Tests of rewinds, which skip the batches around a bad batch."""

import contextlib
import io
import json
import os
import re
import signal
import tempfile

from hypothesis import example, given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.checkpoints import old_formats
from tests.training.running import STEPS, Counter, Run, digests, first_state
from tiger_jax.checkpoints import manifest
from tiger_jax.errors import NotFiniteError, Preempted
from tiger_jax.training.schedule import Rewind, Schedule


class Chain:
  """A task whose parameter is a hash of all steps and batches, in order.

  A bad batch makes the loss or the parameter NaN.
  """

  PRIME = 65521

  def __init__(self, bad, where='loss'):
    # Tables are arguments of the program, so all examples share one program.
    first, second = bad if len(bad) == 2 else (*bad, -1)
    self.tables = {
      'bad': np.array([first, second], np.float32),
      'in_loss': np.bool_(where == 'loss'),
    }

  def init(self, rng):
    return {'hash': jnp.zeros(())}

  def loss(self, params, tables, batch, rng):
    is_bad = (batch[0] == tables['bad']).any()
    loss = jnp.where(is_bad & tables['in_loss'], jnp.nan, 1.0)
    return loss + 0 * params['hash'], {}, (batch[0], is_bad)

  def after_update(self, params, tables, seen, step, rng):
    number, is_bad = seen
    mixed = params['hash'].astype(jnp.int32) * 31 + number.astype(jnp.int32)
    value = ((mixed + step) % self.PRIME).astype(jnp.float32)
    return {'hash': jnp.where(is_bad & ~tables['in_loss'], jnp.nan, value)}

  @classmethod
  def expected(cls, numbers):
    value = 0
    for step, number in enumerate(numbers):
      value = (value * 31 + number + step) % cls.PRIME
    return value


def expected_run(num_steps, steps_per_call, back, skip, bad):
  """Returns the batches that a run trains on, and the start of each window.

  A window is a range of skipped batches around a bad batch. This function
  removes the windows from a list of all batch numbers.
  """
  numbers = list(range(num_steps + 10_000))
  starts = []
  while bad_left := set(bad) & set(numbers[:num_steps]):
    at = min(numbers.index(number) for number in bad_left)
    # No step before the last window was bad, so no later window starts earlier.
    start = max(at - back, starts[-1] if starts else 0)
    stop = max(start + skip, at + 1)
    while start % steps_per_call:
      start -= 1
    while stop % steps_per_call:
      stop += 1
    del numbers[start:stop]
    starts.append(start)
  return numbers[:num_steps], starts


def interrupted(run, at, how):
  """Returns a source that is interrupted once, at the `at`-th stack."""
  count = 0

  def read(start, stop):
    nonlocal count
    for stack in run.counting(start, stop):
      count += 1
      if count == at and how == 'kill':
        raise KeyboardInterrupt
      if count == at:
        os.kill(os.getpid(), signal.SIGTERM)
      yield stack

  return read


# The steps per call and the intervals of configs/beauty.py.
SHIPPED = {
  'num_steps': 2600,
  'steps_per_call': 20,
  'save_every': 2000,
  'log_every': 100,
  'back': 100,
  'skip': 200,
  'where': 'loss',
  'interruption': None,
}


@settings(max_examples=12, deadline=None)
@given(
  num_steps=st.integers(20, 60),
  steps_per_call=st.sampled_from([1, 2, 3, 7]),
  save_every=st.integers(6, 40),
  log_every=st.integers(1, 50),
  back=st.integers(0, 25),
  skip=st.integers(0, 30),
  bad=st.lists(st.integers(0, 70), min_size=1, max_size=2),
  where=st.sampled_from(['loss', 'parameter']),
  interruption=st.none()
  | st.tuples(st.integers(1, 40), st.sampled_from(['kill', 'stop'])),
)
@example(**SHIPPED, bad=[2390])
@example(**SHIPPED | {'where': 'parameter'}, bad=[2005, 2450])
@example(**SHIPPED | {'interruption': (120, 'kill')}, bad=[2190])
def test_one_bad_batch_causes_one_rewind(
  num_steps, steps_per_call, save_every, log_every, back, skip, bad, where,
  interruption,
):  # fmt: skip
  """The intervals of logs and checkpoints do not matter, nor does a restart."""
  numbers, starts = expected_run(num_steps, steps_per_call, back, skip, bad)
  printed = io.StringIO()
  with (
    tempfile.TemporaryDirectory() as folder,
    contextlib.redirect_stdout(printed),
    contextlib.redirect_stderr(io.StringIO()),
  ):
    run = Run(
      folder,
      steps_per_call,
      save_every=save_every,
      log_every=log_every,
      rewind=Rewind(back, skip, steps_per_call),
    )
    source = run.counting
    if interruption:
      source = interrupted(run, *interruption)
    with contextlib.suppress(KeyboardInterrupt, Preempted):
      run(Chain(bad, where), source, num_steps)
    params = run(Chain(bad, where), num_steps=num_steps)
    assert run.trained_on() == numbers
    assert run.ledger() == digests(numbers)
  assert params['hash'] == Chain.expected(numbers)
  if interruption:
    return
  restored = [
    int(x) for x in re.findall('back to step (.*);', printed.getvalue())
  ]
  assert len(restored) == len(starts)
  # A rewind restores the newest checkpoint that is old enough, or step 0.
  for step, start in zip(restored, starts, strict=True):
    assert max(0, start - save_every - steps_per_call) <= step <= start


@pytest.mark.parametrize(
  ('back', 'skip', 'steps_per_call', 'step', 'expected'),
  [
    # Step 401 trains on batch 400, so batches 390 to 409 are skipped.
    (10, 20, 1, 401, (390, 410)),
    (0, 1, 1, 401, (400, 401)),
    # The bad batch is always skipped.
    (10, 5, 1, 401, (390, 401)),
    (0, 0, 1, 401, (400, 401)),
    # Training begins at step 0.
    (10, 20, 1, 4, (0, 20)),
    # Windows are rounded outward to whole calls.
    (100, 200, 20, 2391, (2280, 2500)),
    (0, 1, 20, 401, (400, 420)),
    (0, 1, 20, 400, (380, 400)),
    (3, 5, 4, 10, (4, 12)),
  ],
)  # fmt: skip
def test_the_window_contains_the_bad_step(
  back, skip, steps_per_call, step, expected
):
  assert Rewind(back, skip, steps_per_call).window(step) == expected


def test_a_window_does_not_start_before_an_earlier_window():
  assert Rewind(10, 20).window(401, earliest=397) == (397, 417)
  assert Rewind(2, 20).window(401, earliest=397) == (398, 418)


@pytest.mark.parametrize(
  ('rewind', 'expected'),
  [(None, 0), (Rewind(100, 200), 100), (Rewind(100, 200, 8), 104)],
)
def test_the_reach_of_a_schedule_is_a_whole_number_of_calls(rewind, expected):
  assert Schedule(1, 1, 1, rewind).reach == expected
  if rewind:
    # If the last checkpoint is at step 800, the first possible bad step is 801.
    assert 800 - rewind.window(801)[0] == expected


def rewound(run, bad_batches, bad='loss'):
  return run(Counter(bad, of=bad_batches))


@pytest.mark.parametrize('bad', ['loss', 'gradient', 'parameter'])
def test_a_rewind_skips_batches(tmp_path, bad, capsys):
  """A parameter that is not finite is found at the start of the next step."""
  run = Run(tmp_path, save_every=2, rewind=Rewind(back=2, skip=3))
  assert rewound(run, [6], bad)['count'] == STEPS
  out = capsys.readouterr().out
  assert 'back to step 4; skipped so far: batches 4 to 6\n' in out
  numbers = [*range(4), *range(7, STEPS + 3)]
  assert run.trained_on() == numbers
  assert run.ledger() == digests(numbers)
  assert [line['step'] for line in run.lines()] == list(range(1, STEPS + 1))
  assert [int(line['seen']) for line in run.lines()] == numbers
  assert all(np.isfinite(line['loss']) for line in run.lines())
  assert run.saved() == [6, 8, 10]


def test_a_failed_save_causes_a_rewind(tmp_path):
  """Only the save detects the bad parameters."""
  run = Run(tmp_path, save_every=2, rewind=Rewind(back=1, skip=2))
  assert rewound(run, [5], 'parameter')['count'] == STEPS
  assert run.trained_on() == [*range(4), *range(6, 12)]


@pytest.mark.parametrize(
  ('back', 'to'), [(0, 6), (1, 4), (2, 4), (4, 2), (5, 0), (100, 0)]
)
def test_a_rewind_restores_the_newest_checkpoint_before_the_window(
  tmp_path, back, to, capsys
):
  """Step 7 is bad, so the run restores step 6 - `back` or an earlier step."""
  run = Run(tmp_path, save_every=2, rewind=Rewind(back, skip=8))
  assert rewound(run, [6])['count'] == STEPS
  assert f'back to step {to};' in capsys.readouterr().out
  first = max(0, 6 - back)
  skipped = range(first, max(first + 8, 7))
  numbers = [x for x in range(100) if x not in skipped]
  assert run.trained_on() == numbers[:STEPS]


def test_checkpoints_are_kept_for_a_rewind(tmp_path, capsys):
  """The three latest checkpoints would not be old enough."""
  run = Run(tmp_path, save_every=1, rewind=Rewind(back=6, skip=7))
  assert rewound(run, [8])['count'] == STEPS
  assert 'back to step 2;' in capsys.readouterr().out
  assert run.trained_on() == [0, 1, *range(9, 17)]


def test_a_rewind_removes_the_checkpoints_of_later_steps(tmp_path):
  """The removed checkpoint of step 6 had the best score."""
  scores = {2: 0.1, 4: 0.2, 6: 0.9, 8: 0.3, 10: 0.4}
  seen = []

  def evaluate(params):
    step = int(params['count'])
    seen.append(step)
    # After the rewind, steps 5 and 6 train on different batches.
    return {'score': 0.0 if seen.count(step) == 2 else scores[step]}

  run = Run(
    tmp_path,
    save_every=2,
    rewind=Rewind(back=2, skip=3),
    evaluate=evaluate,
    best_metric='score',
  )
  rewound(run, [6])
  assert run.best() == STEPS
  assert seen == [2, 4, 6, 6, 8, 10]
  assert run.steps('score') == [2, 4, 6, 8, 10]
  assert [x['score'] for x in run.lines() if 'score' in x][2] == 0.0


def test_a_run_ends_after_ten_rewinds(tmp_path, capsys):
  run = Run(tmp_path, save_every=2, rewind=Rewind(back=1, skip=3))
  with pytest.raises(NotFiniteError) as error:
    rewound(run, range(4, 200))
  assert error.value.exit_code == 5
  # All windows start at the same step.
  lines = [
    line for line in capsys.readouterr().out.splitlines() if 'back to' in line
  ]
  assert len(lines) == 10
  assert 'back to step 2; skipped so far: batches 3 to 32' in lines[-1]
  assert '10 rewinds did not help' in str(error.value)
  assert f'step 4, batch {digests([33])[0]}' in str(error.value)
  assert run.saved() == [2]


def test_skipped_ranges_are_restored_from_a_checkpoint(tmp_path):
  """A restart reads the ranges from `meta`, and a later rewind keeps them."""
  whole = Run(tmp_path / 'whole', save_every=3, rewind=Rewind(2, 3))
  rewound(whole, [3, 11])
  numbers = [0, 4, 5, 6, 7, 8, 12, 13, 14, 15]
  assert whole.trained_on() == numbers
  run = Run(tmp_path / 'run', save_every=3, rewind=Rewind(2, 3))
  with pytest.raises(Preempted, match='at step 2, saved;'):
    # The run reads steps 1 to 4, rewinds to step 0, and reads steps 1 and 2.
    run(Counter(of=[3, 11]), interrupted(run, 6, 'stop'))
  path = tmp_path / 'run' / 'checkpoints' / '2' / 'meta.json'
  assert json.loads(path.read_text())['meta'] == {'skipped': [[1, 4]]}
  num_read = len(run.numbers)
  rewound(run, [3, 11])
  assert run.numbers[num_read] == 5
  assert run.trained_on() == numbers
  assert run.saved() == whole.saved()


def test_a_saved_count_of_skipped_batches_becomes_a_range(tmp_path):
  """Earlier versions saved a count, and added it to later batch numbers."""
  run = Run(tmp_path, save_every=4, rewind=Rewind(back=1, skip=2))
  with pytest.raises(Preempted):
    run(Counter(), run.stopping(6))
  folder = tmp_path / 'checkpoints' / '6'
  old_formats.convert(folder, first_state(Counter()), number=1)
  contents = json.loads((folder / 'meta.json').read_text())
  contents['meta'] = {'skipped': 3}
  (folder / 'meta.json').write_text(json.dumps(contents))
  manifest.write(folder, {'step': 6})
  assert run(Counter())['count'] == STEPS
  assert run.trained_on()[6:] == [9, 10, 11, 12]
  contents = json.loads(
    (tmp_path / 'checkpoints' / '8' / 'meta.json').read_text()
  )
  assert contents['meta'] == {'skipped': [[0, 3]]}


def test_rewound_parameters_are_those_of_the_checkpoint(tmp_path):
  """Later steps changed the parameters and donated their buffers."""

  class Walk(Counter):
    def after_update(self, params, tables, seen, step, rng):
      return {'count': params['count'] + jax.random.uniform(rng)}

  run = Run(tmp_path / 'a', save_every=2, rewind=Rewind(back=2, skip=3))
  params = run(Walk(of=[6]))
  # Random draws depend only on the step, so both runs have the same draws.
  expected = Run(tmp_path / 'b')(Walk())
  np.testing.assert_array_equal(params['count'], expected['count'])
