"""NaNs are reported and never saved, and a run can skip their batches."""

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

# The parameter that becomes NaN.
KERNEL = 'heads_1/kernel'
# Each of these steps gets a NaN in a run of its own: the first and last steps,
# steps within and at the end of a call, and steps with a save.
STEPS = (1, 5, 24, 25, 26, 62, 75, 101, 398, 400) if shop.IS_FULL else ()
BATCHES = tuple(step - 1 for step in STEPS) or (160,)
REWIND = '--config.train.on_non_finite=rewind:30,skip:60'


def assert_all_finite(folder: Path) -> None:
  """Checks every array of every checkpoint."""
  for step in shop.steps(folder):
    with ocp.StandardCheckpointer() as orbax:
      state = [
        orbax.restore(folder / str(step) / name) for name in ('params', 'state')
      ]
    for array in shop.leaves(state):
      assert np.isfinite(array).all()


def lines_of_ledger(workdir: Path) -> list[tuple[str, int]]:
  """Returns the digest and the number of the batch of each step."""
  lines = (workdir / 'train' / 'ledger').read_text().splitlines()
  return [(digest, int(number)) for digest, number in map(str.split, lines)]


@pytest.mark.parametrize(
  ('patch', 'at'),
  [(('nan_in_a_parameter', step, KERNEL), step) for step in STEPS]
  + [(('nan_of_a_batch', batch, 'loss'), batch + 1) for batch in BATCHES],
  ids=lambda x: x[0] if isinstance(x, tuple) else str(x),
)
def test_a_nan_ends_the_run_and_is_never_saved(
  patch: tuple[Any, ...],
  at: int,
  tmp_path: Path,
  forks: Forks,
  reference: Path,
  tally: Counter[str],
):
  """The error names the step, the batch and the tensor; no NaN is saved."""
  workdir = shop.without('train', reference, tmp_path / 'run')
  ended = forks.run(workdir, shop.FLAGS, patches=[patch])
  assert ended.code == 5, ended.err
  assert 'Traceback' not in ended.err
  # The NaN is detected by a step, or by the save after that step.
  match = re.fullmatch(
    r'error: train: (?:after batch (?P<last>\w+), )?(?P<tensor>.+) is not '
    r'finite (?:at|after) step (?P<step>\d+)(?:, batch (?P<batch>\w+))?; .*',
    ended.message,
  )
  assert match, ended.message
  ledger = [digest for digest, _ in lines_of_ledger(reference)]
  step = int(match['step'])
  assert (match['batch'] or match['last']) == ledger[step - 1]
  if patch[0] == 'nan_of_a_batch':
    assert (match['tensor'], step) == ('loss', at)
  else:
    assert match['tensor'].endswith(KERNEL)
    assert step == (at if at % shop.SAVE_EVERY == 0 else at + 1)
  folder = shop.checkpoints(workdir, 'train')
  assert max(shop.steps(folder), default=0) < at
  assert_all_finite(folder)
  shop.assert_good_so_far(workdir, reference)
  if shop.IS_FULL and at in (25, 62):  # A run without the fault resumes.
    assert forks.run(workdir, shop.FLAGS).code == 0
    assert shop.final(workdir) == shop.final(reference)
  tally['NaNs, each reported with step, batch and tensor, none saved'] += 1


@pytest.mark.parametrize(
  ('where', 'batch'),
  # Batch 163 is in the middle of a call. Batch 174 is the last one before the
  # save at step 175, and only this save detects the NaN in the parameters.
  [('loss', 163), ('parameters', 174)] if shop.IS_FULL else [('loss', 163)],
)
def test_a_rewind_skips_the_batches_around_a_bad_one(
  where: str,
  batch: int,
  tmp_path: Path,
  forks: Forks,
  reference: Path,
  tally: Counter[str],
):
  """The run skips the batches around the bad one, even after a kill."""
  flags = (*shop.FLAGS, REWIND)
  patch = ('nan_of_a_batch', batch, where)
  whole = shop.without('train', reference, tmp_path / 'whole')
  done = forks.run(whole, flags, patches=[patch])
  assert done.code == 0, done.err
  # The run skips the 30 batches before the bad batch and the 30 batches from it
  # on, extended to whole calls of 5 steps.
  start = (batch - 30) // 5 * 5
  stop = -(-(batch + 30) // 5) * 5
  back = start // shop.SAVE_EVERY * shop.SAVE_EVERY
  skipped = (
    f'back to step {back}; skipped so far: batches {start} to {stop - 1}\n'
  )
  assert skipped in done.out
  assert done.out.count('back to step') == 1
  assert_all_finite(shop.checkpoints(whole, 'train'))
  before, after = lines_of_ledger(reference), lines_of_ledger(whole)
  assert after[:start] == before[:start]
  assert after[start : shop.STEPS - (stop - start)] == before[stop:]
  assert after[-1][1] == shop.STEPS + stop - start - 1

  kills = [
    # One kill happens while the rewind removes later checkpoints, and two kills
    # happen during later saves.
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
  tally['runs that rewound, equal with and without kills'] += 1
