"""Killed runs end with the same files as an uninterrupted run."""

from collections import Counter
from collections.abc import Sequence
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.reliability import shop
from tests.reliability.faults import Trigger
from tests.reliability.forks import ROOT, Forks, environment

# For each phase of a save, the event that starts the phase, and the number of
# events in the phase.
IN_SAVE = {
  'arrays': (r'save\.begin /{}', 9),
  'manifest': (r'os\.rename /{}\S+orbax-checkpoint-tmp ', 24),
  'name': (r'os\.rename /{}\S+/\d+\.partial ', 2),
  'removal': (r'os\.rename /{}\S+ -> \S+\.old', 16),
}


def in_save(rng: np.random.Generator, stage: str, phase: str) -> Trigger:
  """Returns a kill at a random time within a phase of a save."""
  after, events = IN_SAVE[phase]
  return Trigger(
    after.format(stage),
    nth=1 if phase == 'removal' else int(rng.integers(1, 3)),
    events=int(rng.integers(events)),
    among='/checkpoints/|^os.remove',
    # Writing the arrays causes no events, so the kill waits for a random time.
    delay=float(rng.uniform(0, 0.02)) if phase == 'arrays' else 0.0,
  )


def chain(seed: int) -> list[Trigger]:
  """Returns kills of consecutive processes, in the order of the stages."""
  rng = np.random.default_rng(seed)
  return [
    Trigger('stage.begin data', events=int(rng.integers(11))),
    Trigger('stage.begin embedding', delay=float(rng.uniform(0, 0.5)))
    if seed % 2
    else Trigger('stage.begin embedding', events=int(rng.integers(8))),
    in_save(rng, 'semantic_ids', 'arrays'),
    in_save(rng, 'semantic_ids', ('manifest', 'name', 'removal')[seed % 3])
    if seed % 4
    else Trigger('open /semantic_ids.*goodput', events=int(rng.integers(16))),
    Trigger('ledger.add', nth=int(rng.integers(1, 20)))
    if seed % 2
    else Trigger('stage.begin train', delay=float(rng.uniform(0, 1.5))),
    in_save(rng, 'train', 'arrays'),
    in_save(rng, 'train', 'manifest'),
    in_save(rng, 'train', 'name'),
    in_save(rng, 'train', 'removal'),
    Trigger('stage.begin evaluation', delay=float(rng.uniform(0, 0.8)))
    if seed % 2
    else Trigger('open /train.*stage.json', events=int(rng.integers(9))),
  ]


def assert_same(workdir: Path, reference: Path) -> None:
  """Checks that a run has the final files and metrics of the reference."""
  assert shop.final(workdir) == shop.final(reference)
  assert shop.logged(workdir) == shop.logged(reference)


def command(workdir: Path) -> list[str]:
  """Returns the command that a user would run."""
  program = [sys.executable, '-m', 'tiger_jax.main', f'--workdir={workdir}']
  return [*program, *shop.FLAGS]


@pytest.mark.parametrize('number', range(2 if shop.IS_FULL else 1))
def test_two_uninterrupted_runs_are_equal(
  number: int, tmp_path: Path, reference: Path, cache: Path, tally: Counter[str]
):
  """One run is a new process, and the reference is a fork."""
  workdir = tmp_path / 'run'
  subprocess.run(
    command(workdir), env=environment(cache), cwd=ROOT, check=True,
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
  )  # fmt: skip
  assert_same(workdir, reference)
  tally['uninterrupted runs, equal to the reference'] += 1


@pytest.mark.parametrize(
  'kills',
  [chain(seed) for seed in range(10)]
  if shop.IS_FULL
  else [[chain(1)[i] for i in (2, 6, 8)]],
  ids=lambda kills: str(len(kills)),
)
def test_a_run_killed_at_chosen_events_equals_the_reference(
  kills: Sequence[Trigger],
  tmp_path: Path,
  forks: Forks,
  reference: Path,
  tally: Counter[str],
):
  """Kills the run at chosen events. Most of the events are within a save."""
  workdir = tmp_path / 'run'
  counts: Counter[str] = Counter()
  for kill in kills:
    killed = forks.run(workdir, shop.FLAGS, [kill])
    assert killed.code == -signal.SIGKILL, (kill, killed.err)
    shop.assert_good_so_far(workdir, reference)
    shop.assert_saved(workdir, killed.trace)
    shop.assert_same_states(killed.trace, reference)
    counts['kill -9'] += 1
    counts['kill -9 within a save'] += killed.in_save
    counts[f'kill -9 in stage {killed.stage or "none"}'] += 1
  again = forks.run(workdir, shop.FLAGS)
  assert again.code == 0, again.err
  assert_same(workdir, reference)
  tally.update(counts)
  tally['killed runs, equal to the reference'] += 1


@pytest.mark.skipif(not shop.IS_FULL, reason='starts new processes')
def test_a_run_killed_at_random_times_equals_the_reference(
  tmp_path: Path, reference: Path, cache: Path, tally: Counter[str]
):
  """Kills a process that runs without injected faults."""
  rng = np.random.default_rng(0)
  results = json.loads((reference / 'results.json').read_text())
  seconds = sum(results['seconds'].values())
  workdir = tmp_path / 'run'
  num_kills = 0
  while num_kills < 10:
    with subprocess.Popen(
      command(workdir), env=environment(cache), cwd=ROOT,
      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
      while not (workdir / '.lock').exists() and process.poll() is None:
        time.sleep(0.02)
      time.sleep(rng.uniform(0, seconds))
      process.kill()
    if process.returncode == 0:  # The run finished before the kill.
      assert_same(workdir, reference)
      shutil.rmtree(workdir)
      continue
    assert process.returncode == -signal.SIGKILL
    shop.assert_good_so_far(workdir, reference)
    num_kills += 1
  subprocess.run(
    command(workdir), env=environment(cache), cwd=ROOT, check=True,
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
  )  # fmt: skip
  assert_same(workdir, reference)
  tally['kill -9 at random times, from outside'] += num_kills


@pytest.mark.skipif(not shop.IS_FULL, reason='recompiles everything')
def test_truncated_cached_programs_do_not_change_a_run(
  tmp_path: Path, forks: Forks, reference: Path, cache: Path
):
  """A kill may leave incomplete programs in the compilation cache."""
  torn = shutil.copytree(cache, tmp_path / 'cache')
  for path in torn.iterdir():
    os.truncate(path, path.stat().st_size // 2)
  workdir = tmp_path / 'run'
  done = forks.run(workdir, shop.FLAGS, cache=torn)
  assert done.code == 0, done.err
  assert_same(workdir, reference)
