"""Tests of the error messages about values that are not finite."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.running import STEPS, Counter, Run, digests
from tiger_jax.errors import NotFiniteError, NumbersError
from tiger_jax.runtime.goodput import Stopwatch
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.training.log import StepLog
from tiger_jax.training.step import StepResults

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
def test_the_error_names_step_batch_and_tensor(
  tmp_path, bad, at, steps_per_call, log_every, saved
):
  run = Run(tmp_path, steps_per_call, log_every=log_every)
  (digest,) = digests([at - 1])
  message = f'train: {TENSORS[bad]} is not finite at step {at}, batch {digest};'
  for _ in range(2):  # A restart fails in the same way.
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


def test_an_error_before_the_first_checkpoint_saves_nothing(tmp_path, capfd):
  run = Run(tmp_path)
  with pytest.raises(NumbersError, match='loss is not finite at step 2,'):
    run(Counter(at=2))
  assert run.saved() == []
  # The progress bar ends with a line break, before the message.
  assert capfd.readouterr().err.endswith('\n')


def test_a_bad_parameter_is_detected_in_the_next_step(tmp_path):
  run = Run(tmp_path)
  (digest,) = digests([7])
  message = f'parameter count is not finite at step 8, batch {digest};'
  with pytest.raises(NotFiniteError, match=message) as error:
    run(Counter('parameter', at=7))
  assert error.value.step == 7
  assert run.saved() == [5]


@pytest.mark.parametrize('at', [5, STEPS])
def test_a_bad_parameter_is_detected_before_it_is_saved(tmp_path, at):
  """The loss of the step is finite, and there may be no next step."""
  run = Run(tmp_path)
  message = f'params/count is not finite after step {at}'
  with pytest.raises(NotFiniteError, match=message) as error:
    run(Counter('parameter', at=at))
  assert str(error.value).startswith('train: ')
  assert f'batch {digests([at - 1])[0]}' in str(error.value)
  assert error.value.step == at
  assert run.saved() == ([] if at == 5 else [5])


def test_one_bad_replica_is_an_error(tmp_path):
  writer = MetricsWriter(tmp_path)
  watch = Stopwatch()
  names = ['parameter x', 'loss', 'gradient of x']
  log = StepLog(writer, 'train', names, watch)
  finite = np.ones((3, 2, 3), bool)
  finite[1, 0, 2] = False
  finite[2] = False
  log.add(
    4, StepResults({'loss': jnp.ones((3, 2))}, finite), ['a', 'b', 'c'], 6
  )
  with pytest.raises(NotFiniteError) as error:
    log.flush({})
  watch.close()
  message = 'train: gradient of x is not finite at step 6, batch b'
  assert str(error.value) == message
  assert error.value.step == 6


def test_the_error_is_about_the_first_bad_step(tmp_path):
  watch = Stopwatch()
  log = StepLog(MetricsWriter(tmp_path), 'train', ['loss'], watch)
  for first in (0, 2, 4):
    loss = jnp.where(jnp.arange(2) + first >= 3, jnp.inf, 1.0)
    results = StepResults({'loss': loss}, jnp.isfinite(loss)[:, None])
    step = log.add(first, results, [f'{first}', f'{first + 1}'], 2)
    assert step == first + 2
  with pytest.raises(NotFiniteError, match='loss .* at step 4, batch 3$'):
    log.flush({})
  watch.close()
