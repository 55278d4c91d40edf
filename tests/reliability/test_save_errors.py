"""Checkpoints that cannot be written end a run with an error."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
import shutil
import signal
import subprocess

import pytest

from tests.reliability import shop
from tests.reliability.faults import Trigger
from tests.reliability.forks import Forks

SIZE = '24m'
LAST = -(-shop.STEPS // shop.SAVE_EVERY)
CASES = (
  [
    (stage, action, nth)
    for stage, last in (('semantic_ids', 9), ('train', LAST))
    for action in ('fill', 'limit', 'block')
    for nth in (1, 4, last)
  ]
  if shop.IS_FULL
  else [('train', 'fill', 4)]
)


@pytest.fixture(name='disk')
def _disk(tmp_path: Path) -> Iterator[Path]:
  """A small disk that a test can fill."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={SIZE}', 'tmpfs', str(folder)]
  if subprocess.run(mount, capture_output=True, check=False).returncode:
    pytest.skip('only root can mount a small disk')
  yield folder
  subprocess.run(['umount', str(folder)], check=True)


@pytest.mark.parametrize(('stage', 'action', 'nth'), CASES)
def test_a_failed_save_is_reported_and_repeated_by_the_next_run(
  stage: str,
  action: str,
  nth: int,
  request: pytest.FixtureRequest,
  tmp_path: Path,
  forks: Forks,
  reference: Path,
  tally: Counter[str],
):
  """The disk is full, files cannot grow, or a file blocks the save."""
  parent = request.getfixturevalue('disk') if action == 'fill' else tmp_path
  workdir = shop.without(stage, reference, parent / 'run')
  failing = Trigger(rf'save\.begin /{stage}', nth, action=action)
  failed = forks.run(workdir, shop.FLAGS, [failing])
  begun = [x for x in failed.trace if x.startswith(f'save.begin /{stage}')]
  step = int(begun[nth - 1].rpartition('/')[2])
  folder = shop.checkpoints(workdir, stage)

  assert failed.code not in (0, 1), failed.err
  lines = failed.err.splitlines()
  assert sum(line.startswith('error: ') for line in lines) == 1
  if action == 'block':  # On a full disk, TensorBoard prints a traceback.
    assert 'Traceback' not in failed.err
    assert failed.message.startswith('error: ')
  named = [
    line for line in lines if f'{folder}: step {step} cannot be saved' in line
  ]
  assert len(named) == 1, failed.err
  assert step not in shop.steps(folder)
  assert len(shop.steps(folder)) >= min(nth - 1, 3)
  shop.assert_good_so_far(workdir, reference)
  shop.assert_saved(workdir, failed.trace)

  # Remove the cause of the failure, and run again.
  if action == 'fill':
    (workdir / 'filler').unlink()
  if action == 'block':
    (folder / f'{step}.partial').unlink()
  again = forks.run(workdir, shop.FLAGS)
  assert again.code == 0, again.err
  assert shop.final(workdir) == shop.final(reference)
  assert shop.logged(workdir) == shop.logged(reference)
  tally['failed saves, each reported and repeated by the next run'] += 1


@pytest.mark.skipif(not shop.IS_FULL, reason='only in the full run')
def test_a_file_at_the_path_of_the_checkpoints_folder_is_refused(
  tmp_path: Path, forks: Forks, reference: Path, tally: Counter[str]
):
  workdir = shop.without('train', reference, tmp_path / 'run')
  in_save = Trigger(r'save\.begin /train')
  assert forks.run(workdir, shop.FLAGS, [in_save]).code == -signal.SIGKILL
  folder = shop.checkpoints(workdir, 'train')
  shutil.rmtree(folder)
  folder.touch()
  failed = forks.run(workdir, shop.FLAGS)
  assert failed.code == 4
  assert failed.message.startswith(f'error: {folder}: it cannot be used')
  folder.unlink()
  again = forks.run(workdir, shop.FLAGS)
  assert again.code == 0, again.err
  assert shop.final(workdir) == shop.final(reference)
  tally['failed saves, each reported and repeated by the next run'] += 1
