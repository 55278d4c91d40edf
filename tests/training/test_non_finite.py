"""Numbers that are not finite: what is said, and what is done about it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.running import STEPS, Counter, Run, digests
from tiger_jax.errors import NumbersError, Preempted
from tiger_jax.training.goodput import Stopwatch
from tiger_jax.training.log import NotFiniteError, StepLog
from tiger_jax.training.schedule import Rewind
from tiger_jax.training.step import Taken
from tiger_jax.training.writers import MetricsWriter

TENSORS = {
  'loss': 'loss',
  'gradient': 'gradient of count',
  'metric': 'seen',
}


@pytest.mark.parametrize(
  ('bad', 'at', 'steps_per_call', 'log_every', 'saved'),
  [
    ('loss', 6, 1, 1, 5),
    ('loss', 8, 1, 100, 5),
    ('loss', 10, 4, 100, 8),
    ('gradient', 8, 4, 1, None),
    ('gradient', 10, 1, 100, 5),
    ('metric', 6, 4, 1, None),
    ('metric', 8, 1, 100, 5),
  ],
)
def test_step_batch_and_tensor_are_named(
  tmp_path, bad, at, steps_per_call, log_every, saved
):
  run = Run(tmp_path, steps_per_call, log_every=log_every)
  (digest,) = digests([at - 1])
  message = f'train: {TENSORS[bad]} is not finite at step {at}, batch {digest};'
  for _ in range(2):  # To start it again does not help, nor harm.
    with pytest.raises(NumbersError, match=message) as error:
      run(Counter(bad, at))
    assert '\n' not in str(error.value)
    assert 'learning rate' in str(error.value)
    assert error.value.exit_code == 5
    assert run.saved() == ([saved] if saved else [])
    if (tmp_path / 'metrics.jsonl').exists():
      assert all(np.isfinite(line['loss']) for line in run.lines())
  assert run(Counter())['count'] == STEPS
  assert run.ledger() == digests(range(STEPS))


def test_before_the_first_checkpoint(tmp_path, capfd):
  run = Run(tmp_path)
  with pytest.raises(NumbersError, match='loss is not finite at step 2,'):
    run(Counter(at=2))
  assert run.saved() == []
  # The progress line is ended: the message gets a line of its own.
  assert capfd.readouterr().err.endswith('\n')


def test_a_parameter_is_found_in_the_next_step(tmp_path):
  run = Run(tmp_path)
  (digest,) = digests([7])
  message = f'parameter count is not finite at step 8, batch {digest};'
  with pytest.raises(NumbersError, match=message):
    run(Counter('parameter', at=7))
  assert run.saved() == [5]


@pytest.mark.parametrize('at', [5, STEPS])
def test_a_parameter_is_found_before_it_is_saved(tmp_path, at):
  """The loss of that step is fine, and there may be no next one."""
  run = Run(tmp_path)
  message = f'params/count is not finite after step {at}'
  with pytest.raises(NotFiniteError, match=message) as error:
    run(Counter('parameter', at=at))
  assert str(error.value).startswith('train: ')
  assert f'batch {digests([at - 1])[0]}' in str(error.value)
  assert error.value.step == at
  assert run.saved() == ([] if at == 5 else [5])


def test_of_several_replicas_one_is_enough(tmp_path):
  writer = MetricsWriter(tmp_path)
  watch = Stopwatch()
  names = ['parameter x', 'loss', 'gradient of x']
  log = StepLog(writer, 'train', names, watch)
  finite = np.ones((3, 2, 3), bool)
  finite[1, 0, 2] = False
  finite[2] = False
  log.add(4, Taken({'loss': jnp.ones((3, 2))}, finite), ['a', 'b', 'c'], 6)
  with pytest.raises(NotFiniteError) as error:
    log.flush({})
  watch.close()
  message = 'train: gradient of x is not finite at step 6, batch b'
  assert str(error.value) == message
  assert error.value.step == 6


def test_the_first_of_several_calls_counts(tmp_path):
  watch = Stopwatch()
  log = StepLog(MetricsWriter(tmp_path), 'train', ['loss'], watch)
  for first in (0, 2, 4):
    loss = jnp.where(jnp.arange(2) + first >= 3, jnp.inf, 1.0)
    taken = Taken({'loss': loss}, jnp.isfinite(loss)[:, None])
    found = log.add(first, taken, [f'{first}', f'{first + 1}'], 2)
    assert found == first + 2
  with pytest.raises(NotFiniteError, match='loss .* at step 4, batch 3$'):
    log.flush({})
  watch.close()


def rewound(run, bad_batches, bad='loss'):
  return run(Counter(bad, of=bad_batches))


@pytest.mark.parametrize(
  # That a parameter is not finite is found where the next step begins.
  ('bad', 'to'),
  [('loss', 4), ('gradient', 4), ('parameter', 6)],
)
def test_rewinding_leaves_batches_out(tmp_path, bad, to, capsys):
  run = Run(tmp_path, save_every=2, rewind=Rewind(back=2, skip=3))
  assert rewound(run, [6], bad)['count'] == STEPS
  found = capsys.readouterr().out
  assert f'back to step {to}, and 3 batches left out' in found
  numbers = [*range(to), *range(to + 3, STEPS + 3)]
  assert run.ledger() == digests(numbers)
  assert [line['step'] for line in run.lines()] == list(range(1, STEPS + 1))
  assert [int(line['seen']) for line in run.lines()] == numbers
  assert all(np.isfinite(line['loss']) for line in run.lines())
  assert run.saved() == [6, 8, 10]


def test_rewinding_from_a_step_that_is_to_be_saved(tmp_path):
  """Its parameters are bad, which only the saving finds."""
  run = Run(tmp_path, save_every=2, rewind=Rewind(back=1, skip=2))
  assert rewound(run, [5], 'parameter')['count'] == STEPS
  assert run.ledger() == digests([*range(4), *range(6, 12)])


@pytest.mark.parametrize(
  ('back', 'to'), [(1, 6), (3, 4), (5, 2), (6, 2), (100, 2)]
)
def test_it_goes_back_so_far(tmp_path, back, to):
  """To one that is older than the bad step, 7, by what was asked or more.

  Or to the oldest there is.
  """
  run = Run(tmp_path, save_every=2, rewind=Rewind(back, skip=8))
  assert rewound(run, [6])['count'] == STEPS
  assert run.ledger() == digests([*range(to), *range(to + 8, STEPS + 8)])


def test_without_a_checkpoint_it_begins_anew(tmp_path):
  run = Run(tmp_path, rewind=Rewind(back=1, skip=3))
  assert rewound(run, [1])['count'] == STEPS
  assert run.ledger() == digests(range(3, STEPS + 3))


def test_rewinding_twice(tmp_path, capsys):
  run = Run(tmp_path, save_every=2, rewind=Rewind(back=2, skip=3))
  assert rewound(run, [6, 9])['count'] == STEPS
  assert 'back to step 4, and 6 batches left out' in capsys.readouterr().out
  assert run.ledger() == digests([*range(4), *range(10, 16)])


def test_what_is_not_saved_as_good_is_not_the_best(tmp_path):
  """A checkpoint that was rewound past does not come back."""
  scores = {2: 0.1, 4: 0.2, 6: 0.9, 8: 0.3, 10: 0.4}
  seen = []

  def evaluate(params):
    step = int(params['count'])
    seen.append(step)
    # The second time, step 6 is of other batches.
    return {'score': 0.0 if seen.count(step) == 2 else scores[step]}

  run = Run(
    tmp_path,
    save_every=2,
    rewind=Rewind(back=3, skip=3),
    evaluate=evaluate,
    best_metric='score',
  )
  assert rewound(run, [6])['count'] == STEPS
  assert seen == [2, 4, 6, 6, 8, 10]
  assert run.steps('score') == [2, 4, 6, 8, 10]
  assert [x['score'] for x in run.lines() if 'score' in x][2] == 0.0


def test_whole_stacks_are_left_out(tmp_path):
  run = Run(
    tmp_path, steps_per_call=2, save_every=4, rewind=Rewind(back=2, skip=4)
  )
  assert rewound(run, [6])['count'] == STEPS
  assert run.ledger() == digests([*range(4), *range(8, 14)])


def test_it_gives_up_after_ten(tmp_path, capsys):
  run = Run(tmp_path, save_every=2, rewind=Rewind(back=1, skip=3))
  with pytest.raises(NotFiniteError) as error:
    rewound(run, range(4, 200))
  assert error.value.exit_code == 5
  # Before each it began again at step 4, with three batches fewer.
  told = [
    line for line in capsys.readouterr().out.splitlines() if 'back to' in line
  ]
  assert len(told) == 10
  assert 'back to step 4, and 30 batches left out' in told[-1]
  assert f'step 5, batch {digests([34])[0]}' in str(error.value)
  assert run.saved() == [2, 4]


@pytest.mark.parametrize('stop_at', [5, 6])
def test_a_rewound_run_goes_on_with_what_it_left_out(tmp_path, stop_at):
  rewind = Rewind(back=2, skip=3)
  whole = Run(tmp_path / 'whole', save_every=2, rewind=rewind)
  rewound(whole, [6])
  run = Run(tmp_path / 'run', save_every=2, rewind=rewind)

  def read(start, stop):
    # Only after rewinding, when batches have been left out.
    is_rewound = start in (7, 9)
    source = run.stopping(stop_at + 3) if is_rewound else run.counting
    return source(start, stop)

  with pytest.raises(Preempted, match=f'saved at step {stop_at};'):
    run(Counter(of=[6]), read)
  assert run.saved()[-1] == stop_at
  asked = len(run.numbers)
  assert rewound(run, [6])['count'] == STEPS
  assert run.numbers[asked:] == list(range(stop_at + 3, STEPS + 3))
  assert run.ledger() == whole.ledger()
  assert run.saved() == whole.saved()


def test_rewound_parameters_are_those_of_the_checkpoint(tmp_path):
  """They were changed, and given away, after it was saved."""

  class Walk(Counter):
    def after_update(self, params, tables, seen, step, rng):
      return {'count': params['count'] + jax.random.uniform(rng)}

  run = Run(tmp_path / 'a', save_every=2, rewind=Rewind(back=2, skip=3))
  found = run(Walk(of=[6]))
  # What is drawn depends on the step alone, so this is all of the steps.
  expected = Run(tmp_path / 'b')(Walk())
  np.testing.assert_array_equal(found['count'], expected['count'])
