"""A run resumes on a different number of devices."""

from collections import Counter
from pathlib import Path
import shutil
import signal

import numpy as np
import pytest

from tests.reliability import shop
from tests.reliability.faults import Trigger
from tests.reliability.forks import Forks

SAVED = 200
COUNTS = (1, 2, 4, 8) if shop.IS_FULL else (2,)


def losses(workdir: Path) -> np.ndarray:
  """Returns the losses logged in the hundred steps after the save."""
  return np.array(
    [
      line['loss']
      for line in shop.logged(workdir)
      if line['stage'] == 'train'
      and 'loss' in line
      and SAVED < line['step'] <= SAVED + 100
    ]
  )


@pytest.mark.parametrize('before', COUNTS if shop.IS_FULL else (1,))
def test_a_run_resumes_on_a_different_number_of_devices(
  before: int,
  tmp_path: Path,
  forks: Forks,
  reference: Path,
  tally: Counter[str],
):
  saved = shop.without('train', reference, tmp_path / 'saved')
  kill = Trigger(rf'save\.end /train.*/{SAVED}$')
  killed = forks.run(saved, shop.FLAGS, [kill], num_devices=before)
  assert killed.code == -signal.SIGKILL, killed.err
  states = shop.states(killed.trace)['train', SAVED]
  resumed = {}
  for after in COUNTS:
    workdir = shutil.copytree(saved, tmp_path / str(after))
    done = forks.run(workdir, shop.FLAGS, num_devices=after)
    assert done.code == 0, done.err
    states |= shop.states(done.trace)['train', SAVED]
    resumed[after] = losses(workdir)
    tally['restarts on a different number of devices'] += before != after
  # All restored states have the same bits.
  assert len(states) == 1
  expected = losses(reference) if before == 1 else resumed[before]
  assert len(expected) >= 10
  for after in COUNTS:
    np.testing.assert_allclose(resumed[after], expected, rtol=1e-5)
