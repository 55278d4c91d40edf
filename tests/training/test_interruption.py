"""Tests that interrupted and uninterrupted runs end with the same bits."""

import os
from pathlib import Path
import signal
import subprocess
import sys

import pytest

from tests.training import running
from tests.training.running import (
  STEPS,
  Counter,
  Run,
  assert_same_bits,
  digests,
  measured,
  real_task,
)
from tiger_jax.errors import CheckpointError, DamagedError, Preempted

# Results are bit-identical only for programs compiled with the default XLA
# optimizations, as users run them.
pytestmark = pytest.mark.as_users


@pytest.fixture(name='whole', scope='module')
def _whole(tmp_path_factory):
  """Returns the parameters, ledger and metrics of an uninterrupted run."""
  run = Run(tmp_path_factory.mktemp('whole'))
  params = run(*real_task())
  return params, run.ledger(), measured(run.lines())


def assert_ends_as(run, params, whole):
  expected, ledger, lines = whole
  assert_same_bits(params, expected)
  assert run.ledger() == ledger
  assert measured(run.lines()) == lines
  assert run.saved()[-1] == STEPS


def test_all_batches_differ(whole):
  """If all batches were equal, equal ledgers would prove nothing."""
  _, ledger, _ = whole
  assert len(set(ledger)) == len(ledger) == STEPS


def test_a_killed_run_resumes_with_equal_results(tmp_path, whole):
  root = Path(__file__).parents[2]
  done = subprocess.run(
    [sys.executable, running.__file__, tmp_path, '7'],
    env=os.environ | {'PYTHONPATH': str(root)},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    check=False,
  )
  assert done.returncode == -signal.SIGKILL
  run = Run(tmp_path)
  assert run.saved() == [5]
  # A killed process may leave an incomplete line.
  for name, half in (
    ('metrics.jsonl', '{"stage": "train", "st'),
    ('ledger', whole[1][7][:5]),
  ):
    with (tmp_path / name).open('a') as file:
      file.write(half)
  assert_ends_as(run, run(*real_task()), whole)


@pytest.mark.parametrize('at', [1, 5, 7])
def test_sigterm_saves_and_the_next_call_resumes(tmp_path, whole, at):
  run = Run(tmp_path)
  task, read = real_task()
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(Preempted, match=f'at step {at}, saved;') as error:
    run(task, run.stopping(at, read))
  assert error.value.exit_code == 42
  assert signal.getsignal(signal.SIGTERM) is before
  assert run.saved()[-1] == at
  assert run.ledger() == whole[1][:at]
  assert_ends_as(run, run(task, read), whole)


@pytest.mark.parametrize('at', [2, 4, 6, 9])
def test_after_an_error_a_run_resumes_from_the_last_save(tmp_path, whole, at):
  run = Run(tmp_path)
  task, read = real_task()
  with pytest.raises(KeyboardInterrupt):
    run(task, run.stopping(at, read, KeyboardInterrupt()))
  assert run.saved() == ([5] if at > 5 else [])
  # The ledger has all steps, including those that will be repeated.
  assert run.ledger() == whole[1][: at - 1]
  assert run.steps() == list(range(1, at))
  assert_ends_as(run, run(task, read), whole)


def test_many_interruptions_do_not_change_the_results(tmp_path, whole):
  run = Run(tmp_path)
  task, read = real_task()
  for at in (3, 4, 8):
    with pytest.raises(Preempted):
      run(task, run.stopping(at, read))
    with pytest.raises(KeyError):
      run(task, run.stopping(at + 1, read, KeyError()))
  assert_ends_as(run, run(task, read), whole)


@pytest.mark.parametrize('at', [1, 4, 7])
def test_a_stop_waits_for_the_end_of_a_stack(tmp_path, whole, at):
  run = Run(tmp_path, steps_per_call=3)
  saved_at = -(-at // 3) * 3
  with pytest.raises(Preempted, match=f'at step {saved_at}, saved;'):
    run(Counter(), run.stopping(at))
  assert run.saved()[-1] == saved_at
  assert run(Counter())['count'] == STEPS
  assert run.steps() == [3, 6, 9, 10]
  assert run.ledger() == digests(range(STEPS))


def test_a_run_with_stacks_resumes_with_equal_parameters(tmp_path):
  task, read = real_task(steps_per_call=3, widths=(20,))
  whole = Run(tmp_path / 'whole')
  params = whole(task, read)
  run = Run(tmp_path / 'run')
  with pytest.raises(Preempted, match='at step 6, saved;'):
    run(task, run.stopping(5, read))
  assert_ends_as(
    run, run(task, read), (params, whole.ledger(), measured(whole.lines()))
  )


def test_a_damaged_checkpoint_is_skipped(tmp_path, whole, capsys):
  run = Run(tmp_path)
  task, read = real_task()
  with pytest.raises(Preempted):
    run(task, run.stopping(7, read))
  (tmp_path / 'checkpoints' / '7' / 'meta.json').write_text('{}')
  params = run(task, read)
  assert 'WARNING: step 7 is skipped' in capsys.readouterr().err
  # The damaged checkpoint is kept for inspection under another name.
  assert (tmp_path / 'checkpoints' / '7.damaged').is_dir()
  assert_ends_as(run, params, whole)


def test_damage_to_all_checkpoints_ends_the_run(tmp_path):
  run = Run(tmp_path)
  run(Counter())
  for step in run.saved():
    (tmp_path / 'checkpoints' / str(step) / 'meta.json').unlink()
  with pytest.raises(DamagedError, match='step 5 is damaged'):
    run(Counter())
  # Nothing is removed without a request by the user.
  assert run.saved() == [5, STEPS]
  assert run.ledger() == digests(range(STEPS))


@pytest.mark.parametrize('lines', [0, 4])
def test_a_ledger_with_missing_lines_is_refused(tmp_path, lines):
  run = Run(tmp_path)
  with pytest.raises(Preempted):
    run(Counter(), run.stopping(7))
  kept = (tmp_path / 'ledger').read_text().splitlines(keepends=True)[:lines]
  (tmp_path / 'ledger').write_text(''.join(kept))
  message = f'ends at step {lines}, before step 7 of the checkpoint'
  with pytest.raises(CheckpointError, match=message):
    run(Counter())


def test_sigterm_between_two_log_lines_loses_no_metrics(tmp_path):
  """Pending metrics are written before the loop ends."""
  run = Run(tmp_path, log_every=4)
  with pytest.raises(Preempted):
    run(Counter(), run.stopping(6))
  assert run.saved() == [5, 6]
  run(Counter())
  assert run.steps() == [4, 5, 6, 8, 10]


def test_sigterm_in_the_last_step_saves_it(tmp_path):
  run = Run(tmp_path)
  with pytest.raises(Preempted):
    run(Counter(), run.stopping(STEPS))
  assert run.saved()[-1] == STEPS
  assert run(Counter())['count'] == STEPS
  assert run.numbers == list(range(STEPS))


def test_a_second_sigterm_has_no_effect(tmp_path):
  run = Run(tmp_path)
  with pytest.raises(Preempted):
    run(Counter(), run.stopping(7, run.stopping(7)))
  assert run.saved() == [5, 7]


def test_a_second_ctrl_c_interrupts_at_once(tmp_path):
  run = Run(tmp_path)

  def read(start, stop):
    for stack in run.counting(start, stop):
      if stack[0, 0] == 6:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
      yield stack

  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(KeyboardInterrupt):
    run(Counter(), read)
  assert signal.getsignal(signal.SIGINT) is before
  assert run.saved() == [5]
  assert run(Counter())['count'] == STEPS
  assert run.ledger() == digests(range(STEPS))


def test_lines_of_other_stages_are_kept(tmp_path):
  run = Run(tmp_path)
  with pytest.raises(KeyboardInterrupt):
    run(Counter(), run.stopping(8, error=KeyboardInterrupt()))
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"stage": "semantic_ids", "step": 99}\n')
    file.write('{"stage": "train", "step": 8, "lo')
  assert run(Counter())['count'] == STEPS
  lines = [line for line in run.lines() if line['stage'] == 'train']
  assert [line['step'] for line in lines] == list(range(1, STEPS + 1))
  assert [line['loss'] for line in lines] == list(range(1, STEPS + 1))
  assert {'stage': 'semantic_ids', 'step': 99} in run.lines()


@pytest.mark.parametrize('stop_at', [5, 6])
def test_the_best_checkpoint_survives_a_restart(tmp_path, stop_at):
  scores = {2: 0.2, 4: 0.9, 6: 0.3, 8: 0.4, 10: 0.5}
  run = Run(
    tmp_path,
    save_every=2,
    evaluate=lambda params: {'score': scores[int(params['count'])]},
    best_metric='score',
  )
  with pytest.raises(Preempted):
    run(Counter(), run.stopping(stop_at))
  assert run.saved()[-1] == stop_at
  run(Counter())
  assert run.best() == 4
  assert run.numbers == list(range(STEPS))
  assert run.steps('score') == [2, 4, 6, 8, 10]
  assert run.saved() == [4, 6, 8, 10]
