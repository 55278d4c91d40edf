"""SIGTERM: the program saves, says so, and the same command goes on."""

from collections import Counter
import json
from pathlib import Path
import re
import shutil
import signal

import numpy as np

from tests.reliability import shop
from tests.reliability.faults import Trigger
from tests.reliability.forks import Forks, Outcome
from tiger_jax.checkpoints import manifest

# Moments that a clock would seldom choose, in the order of the stages.
MOMENTS = (
  ('stage.begin embedding', 1),
  (r'save\.begin /semantic_ids', 2),
  # The last save: there is no step any more that could ask for the signal.
  (r'save\.begin /semantic_ids.*/600$', 1),
  (r'os\.rename /semantic_ids\S+ -> /semantic_ids$', 1),
  ('stage.begin train', 1),
  ('ledger.add', 1),
  ('ledger.add', 12),
  (r'save\.begin /train', 1),
  (r'os\.rename /train\S+ -> \S+\.old', 1),
  (rf'save\.begin /train.*/{shop.STEPS}$', 1),
  ('stage.begin evaluation', 1),
)
FEW = (2,)


def check(stopped: Outcome, workdir: Path, reference: Path) -> str:
  """Checks how a run ended, and returns the stage that it saved in, if any."""
  shop.assert_good_so_far(workdir, reference)
  shop.assert_saved(workdir, stopped.trace)
  shop.assert_same_states(stopped.trace, reference)
  assert 'Traceback' not in stopped.err
  if 'signal.noted' not in stopped.trace:
    # Where no state would be lost, it leaves at once.
    began = any(line.startswith('stage.begin') for line in stopped.trace)
    if began or stopped.code != -signal.SIGTERM:
      assert stopped.code == 42
      assert stopped.message.startswith('error: asked to stop; run the same')
    return ''
  assert stopped.code == 42, stopped.err
  found = re.fullmatch(
    r'error: (\w+): asked to stop, saved at step (\d+); run the same command '
    'to resume',
    stopped.message,
  )
  assert found, stopped.err
  folder = shop.checkpoints(workdir, found[1]) / found[2]
  manifest.check(folder, {'step': int(found[2])})
  lines = (folder.parents[1] / 'ledger').read_text().splitlines()
  assert len(lines) == int(found[2])
  return found[1]


def test_sigterm(
  tmp_path: Path, forks: Forks, reference: Path, tally: Counter[str]
):
  rng = np.random.default_rng(0)
  results = json.loads((reference / 'results.json').read_text())
  seconds = sum(results['seconds'].values())
  triggers = [
    Trigger(after, nth, action='terminate')
    for i, (after, nth) in enumerate(MOMENTS)
    if shop.IS_FULL or i in FEW
  ]
  num_signals = 50 if shop.IS_FULL else len(triggers)
  workdir = tmp_path / 'run'
  found: Counter[str] = Counter()
  while found['SIGTERM'] < num_signals:
    trigger = (
      triggers.pop(0)
      if triggers
      else Trigger(
        'begin', delay=float(rng.uniform(0, seconds)), action='terminate'
      )
    )
    stopped = forks.run(workdir, shop.FLAGS, [trigger])
    if 'terminate' not in stopped.trace:  # It was faster.
      assert stopped.code == 0
      assert shop.final(workdir) == shop.final(reference)
      shutil.rmtree(workdir)
      continue
    stage = check(stopped, workdir, reference)
    found['SIGTERM'] += 1
    where = f'saved in stage {stage}' if stage else 'where nothing was at stake'
    found[f'SIGTERM, {where}'] += 1
  again = forks.run(workdir, shop.FLAGS)
  assert again.code == 0, again.err
  assert shop.final(workdir) == shop.final(reference)
  tally.update(found)


def test_a_second_sigterm_changes_nothing(
  tmp_path: Path, forks: Forks, reference: Path
):
  workdir = shop.without('train', reference, tmp_path / 'run')
  twice = [
    Trigger('ledger.add', 6, action='terminate'),
    Trigger('signal.noted', events=5, action='terminate'),
    Trigger('signal.noted', events=25, action='terminate'),
  ]
  stopped = forks.run(workdir, shop.FLAGS, twice)
  assert stopped.trace.count('signal.noted') > 1
  assert check(stopped, workdir, reference) == 'train'
  if shop.IS_FULL:
    assert forks.run(workdir, shop.FLAGS).code == 0
    assert shop.final(workdir) == shop.final(reference)
