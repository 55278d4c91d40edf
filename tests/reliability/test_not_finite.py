"""Numbers that are not finite: told of, never saved, and got over if asked."""

from collections import Counter
from pathlib import Path
import re
import signal
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.reliability import shop
from tests.reliability.faults import Trigger
from tests.reliability.forks import Forks

# The parameter that is spoilt, and the steps or batches it happens at: at the
# first and the last, within a call, at its end, and where a save follows.
KERNEL = 'heads_1/kernel'
STEPS = (1, 5, 24, 25, 26, 62, 75, 101, 398, 400) if shop.IS_FULL else ()
BATCHES = tuple(step - 1 for step in STEPS) or (160,)
REWIND = '--config.train.on_non_finite=rewind:30,skip:60'


def assert_all_finite(folder: Path) -> None:
  """Checks every array of every checkpoint."""
  for step in shop.steps(folder):
    with ocp.StandardCheckpointer() as orbax:
      state = orbax.restore(folder / str(step) / 'state')
    for array in shop.leaves(state):
      assert np.isfinite(array).all()


@pytest.mark.parametrize(
  ('patch', 'at'),
  [(('nan_in_a_parameter', step, KERNEL), step) for step in STEPS]
  + [(('nan_of_a_batch', batch, 'loss'), batch + 1) for batch in BATCHES],
  ids=lambda x: x[0] if isinstance(x, tuple) else str(x),
)
def test_abort(
  patch: tuple[Any, ...],
  at: int,
  tmp_path: Path,
  forks: Forks,
  reference: Path,
  tally: Counter[str],
):
  """Step, batch and tensor are named, and what was saved is good."""
  workdir = shop.without('train', reference, tmp_path / 'run')
  ended = forks.run(workdir, shop.FLAGS, patches=[patch])
  assert ended.code == 5, ended.err
  assert 'Traceback' not in ended.err
  # Seen by a step, or when the checkpoint after it was to be saved.
  found = re.fullmatch(
    r'error: train: (?:after batch (?P<last>\w+), )?(?P<tensor>.+) is not '
    r'finite (?:at|after) step (?P<step>\d+)(?:, batch (?P<batch>\w+))?; .*',
    ended.message,
  )
  assert found, ended.message
  ledger = (reference / 'train' / 'ledger').read_text().splitlines()
  step = int(found['step'])
  assert (found['batch'] or found['last']) == ledger[step - 1]
  if patch[0] == 'nan_of_a_batch':
    assert (found['tensor'], step) == ('loss', at)
  else:
    assert found['tensor'].endswith(KERNEL)
    assert step == (at if at % shop.SAVE_EVERY == 0 else at + 1)
  folder = shop.checkpoints(workdir, 'train')
  assert max(shop.steps(folder), default=0) < at
  assert_all_finite(folder)
  shop.assert_good_so_far(workdir, reference)
  if shop.IS_FULL and at in (25, 62):  # As if the cause had been found.
    assert forks.run(workdir, shop.FLAGS).code == 0
    assert shop.final(workdir) == shop.final(reference)
  tally['NaNs, each told with step, batch and tensor, none of them saved'] += 1


@pytest.mark.parametrize(
  ('where', 'batch'),
  # The second is found only when it would be saved, at step 175.
  [('loss', 160), ('parameters', 174)] if shop.IS_FULL else [('loss', 160)],
)
def test_rewind(
  where: str,
  batch: int,
  tmp_path: Path,
  forks: Forks,
  reference: Path,
  tally: Counter[str],
):
  """The run goes back, leaves batches out, and kills change nothing of that."""
  flags = (*shop.FLAGS, REWIND)
  patch = ('nan_of_a_batch', batch, where)
  whole = shop.without('train', reference, tmp_path / 'whole')
  done = forks.run(whole, flags, patches=[patch])
  assert done.code == 0, done.err
  # At least 30 steps back, to a checkpoint.
  back = (batch + 1 - 30) // shop.SAVE_EVERY * shop.SAVE_EVERY
  assert f'back to step {back}, and 60 batches left out' in done.out
  assert_all_finite(shop.checkpoints(whole, 'train'))
  before = (reference / 'train' / 'ledger').read_text().splitlines()
  after = (whole / 'train' / 'ledger').read_text().splitlines()
  assert after[:back] == before[:back]
  assert after[back : shop.STEPS - 60] == before[back + 60 :]

  kills = [
    # While what was saved later is removed, and when the first is saved anew.
    Trigger(r'os\.rename /train\S+/150 -> \S+\.old', events=3),
    Trigger(r'save\.begin /train.*/150$', nth=2),
    Trigger(r'save\.begin /train.*/300$', events=15),
  ]
  workdir = shop.without('train', reference, tmp_path / 'run')
  for kill in kills if shop.IS_FULL else kills[1:2]:
    killed = forks.run(workdir, flags, [kill], patches=[patch])
    assert killed.code == -signal.SIGKILL, killed.err
  assert forks.run(workdir, flags, patches=[patch]).code == 0
  assert shop.final(workdir) == shop.final(whole)
  assert shop.logged(workdir) == shop.logged(whole)
  tally['runs that went back and left batches out, killed ones the same'] += 1
