"""After SIGTERM, the program saves its state, and the same command resumes."""

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

# Events that a signal at a random time would rarely hit, in the order of a run.
MOMENTS = (
  ('stage.begin embedding', 1),
  (r'save\.begin /semantic_ids', 2),
  # The last save, after which no step checks for signals.
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
# The indices of the events that a short run tests.
FEW = (2,)


def check(stopped: Outcome, workdir: Path, reference: Path) -> str:
  """Checks a stopped run; returns the stage that saved its state, or ''."""
  shop.assert_good_so_far(workdir, reference)
  shop.assert_saved(workdir, stopped.trace)
  shop.assert_same_states(stopped.trace, reference)
  assert 'Traceback' not in stopped.err
  if 'signal.noted' not in stopped.trace:
    # Without a state to save, the program exits at once.
    began = any(line.startswith('stage.begin') for line in stopped.trace)
    if began or stopped.code != -signal.SIGTERM:
      assert stopped.code == 42
      assert stopped.message.startswith('stopped by SIGTERM; run the same')
    return ''
  assert stopped.code == 42, stopped.err
  match = re.fullmatch(
    r'(\w+): stopped by SIGTERM at step (\d+), saved; run the same command to '
    'resume',
    stopped.message,
  )
  assert match, stopped.err
  stage, step = match[1], match[2]
  folder = shop.checkpoints(workdir, stage) / step
  manifest.check(folder, {'step': int(step)})
  lines = (folder.parents[1] / 'ledger').read_text().splitlines()
  assert len(lines) == int(step)
  return stage


def test_a_run_stopped_by_sigterm_resumes_and_equals_the_reference(
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
  counts: Counter[str] = Counter()
  while counts['SIGTERM'] < num_signals:
    trigger = (
      triggers.pop(0)
      if triggers
      else Trigger(
        'begin', delay=float(rng.uniform(0, seconds)), action='terminate'
      )
    )
    stopped = forks.run(workdir, shop.FLAGS, [trigger])
    if 'terminate' not in stopped.trace:  # The run finished before the signal.
      assert stopped.code == 0
      assert shop.final(workdir) == shop.final(reference)
      shutil.rmtree(workdir)
      continue
    stage = check(stopped, workdir, reference)
    counts['SIGTERM'] += 1
    where = f'saved in stage {stage}' if stage else 'without a state to save'
    counts[f'SIGTERM, {where}'] += 1
  again = forks.run(workdir, shop.FLAGS)
  assert again.code == 0, again.err
  assert shop.final(workdir) == shop.final(reference)
  tally.update(counts)


def test_a_second_sigterm_has_no_effect(
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
