"""Training, measured: against PyTorch, replicas, saving, input, precision.

  python benchmarks/training.py --quick
  python benchmarks/training.py --workdir=runs/beauty --section=t5

--workdir names a run of configs/beauty.py, whose histories and Semantic IDs are
trained on; made-up ones of about the same sizes without it. PyTorch comes with
`pip install -e '.[bench]'`; where other programs run, its threads wait for each
other. If it does not compute what we compute, `t5` ends with `Different`.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import functools
import importlib.util
import json
from pathlib import Path
import shutil
import sys
import tempfile
import time
from typing import Any, NamedTuple

# Found when this file is run as a script, too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags
import jax
import numpy as np

from benchmarks import measuring, requests
from configs import beauty
from tiger_jax.checkpoints import manifest
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.config import Config, config_dict
from tiger_jax.data import batches, splits
from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import next_items
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.runtime import sharding
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.training import loop
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.step import init_state, make_steps

# Beauty's users, and which share of them has fewer events than that.
_NUM_USERS = 22_363
_SHARES = (0, 0.32, 0.51, 0.63, 0.71, 0.77, 0.9, 0.944, 0.977, 0.991, 0.999, 1)
_EVENTS = (5, 6, 7, 8, 9, 10, 15, 20, 30, 45, 93, 205)
_INPUT_STEPS_PER_ROUND = 80
_PEERS = ('torch', 'transformers')


class Setup(NamedTuple):
  """What a section measures: how each of `configs` trains on a dataset."""

  dataset: Dataset
  ids: SemanticIds
  configs: Mapping[str, Config]
  num_rounds: int

  def session(self, config: Config) -> Session:
    """Returns a run of a config."""
    return Session.open(config, Inputs(self.dataset, self.ids))


class Ours:
  """The steps of the product, taken as the product takes them.

  Attributes:
    task: What is learnt.
    stacks: The first batches of every width, in host memory.
    shares: How often each width comes in an epoch.
    targets: Items that a batch predicts, in the mean over an epoch.
    steps: Steps that `take` takes.
    state: After the steps so far.
  """

  def __init__(self, setup: Setup, config: Config, at_once: int | None = None):
    """Makes the first state; `at_once` steps per call, None as configured."""
    session = setup.session(config)
    self._source = source = session.batches
    self.steps = source.steps_per_call
    calls = range(source.steps_per_epoch // self.steps)
    widths = [source.width(call) for call in calls]
    self.shares = {w: widths.count(w) / len(calls) for w in sorted(set(widths))}
    self.stacks = {w: self._stack(widths.index(w)) for w in self.shares}
    self.targets = float(config.train.batch_size)
    if config.model.causal_encoder:
      found = [next_items(self.batch(call)) >= 0 for call in calls]
      self.targets = float(np.mean([x.sum() for x in found]))
    self._at_once = at_once or self.steps
    self.task = session.training_task
    optimizer = make_optimizer(config.train.optimizer, config.train.steps)
    seeds = session.seeds
    self._steps_fn = make_steps(self.task, optimizer, seeds)
    self._tables = jax.device_put(self.task.tables)
    self.state = jax.jit(lambda: init_state(self.task, optimizer, seeds))()

  def batch(self, call: int) -> Batch:
    """Returns the first batch of a call, its items looked up."""
    first = jax.tree.map(lambda x: x[0], self._stack(call))
    return splits.gather(self._source.events, first.examples, first.width)

  def take(self, width: int) -> dict[str, np.ndarray]:
    """Takes the steps of the stack of a width; returns the last metrics."""
    for i in range(0, self.steps, self._at_once):
      rows = slice(i, i + self._at_once)
      part = jax.tree.map(lambda x, rows=rows: x[rows], self.stacks[width])
      self.state, taken = self._steps_fn(self.state, self._tables, part)
    jax.block_until_ready(self.state)
    return {x: y[-1] for x, y in jax.device_get(taken.metrics).items()}

  def _stack(self, call: int) -> Any:
    return self._source.stack(call * self.steps, (call + 1) * self.steps)


def time_steps(
  sides: Mapping[str, Any], num_rounds: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
  """Times the steps of several sides in turns.

  Args:
    sides: By name; `take` takes `steps` steps of one of several kinds, which
      come as often as `shares` says.
    num_rounds: Rounds.

  Returns:
    By name, the seconds of a step in every round, in the mean over the kinds,
    and those of the first `take` of all kinds, which compiles.
  """
  calls, first = {}, dict.fromkeys(sides, 0.0)
  for name, side in sides.items():
    for kind in side.shares:
      start = time.perf_counter()
      side.take(kind)
      first[name] += time.perf_counter() - start
      calls[name, kind] = lambda i, side=side, kind=kind: side.take(kind)
  found = measuring.in_turns(calls, num_rounds)
  seconds = {
    name: sum(share * found[name, x] for x, share in side.shares.items())
    / side.steps
    for name, side in sides.items()
  }
  return seconds, first


def t5(setup: Setup) -> str:
  """Compares training with that of Hugging Face's T5 by PyTorch."""
  if not all(map(importlib.util.find_spec, _PEERS)):
    return "skipped: pip install -e '.[bench]'"
  if measuring.on_accelerator():
    return 'skipped: the peer computes on a CPU, and JAX does not'
  from benchmarks.peers import hf_t5_training

  time_fn = functools.partial(time_steps, num_rounds=setup.num_rounds)
  make_ours = functools.partial(Ours, setup)
  codes = setup.ids.codes
  return hf_t5_training.measure(setup.configs, codes, make_ours, time_fn)


def saving(setup: Setup) -> str:
  """Tells what a checkpoint costs, also as a share of the steps between two."""
  rows = []
  for name, config in setup.configs.items():
    ours = Ours(setup, config)
    step = np.median(time_steps({'': ours}, setup.num_rounds)[0][''])
    size = sum(x.nbytes for x in jax.tree.leaves(ours.state)) / 1e6
    # The first one compiles the check for what is not finite.
    times = [_save(ours.state) for _ in range(setup.num_rounds + 1)][1:]
    blocked, done, write, check = np.array(times).T
    period = step * config.train.evaluate_every
    rows.append([
      f'{name}, {size:.0f} MB', measuring.spread(1000 * blocked, 0),
      measuring.spread(done), measuring.spread(write / done),
      measuring.spread(check), f'{1000 * step:.0f}',
      f'{np.median(blocked) / period:.3%}', f'{np.median(done) / period:.2%}',
    ])  # fmt: skip
  header = ['', 'save blocks, ms', 'on disk, s', 'of it the manifest',
            'manifest.check, s', 'step, ms', 'blocks, of the period',
            'on disk, of the period']  # fmt: skip
  return measuring.table(header, rows)


def _save(state: Any) -> list[float]:
  """Returns seconds: blocked, until all is on disk, of the manifest alone."""
  with (
    tempfile.TemporaryDirectory() as scratch,
    Checkpoints(Path(scratch, 'checkpoints'), {}) as checkpoints,
  ):
    # Of a copy, which is not on disk yet when its manifest is written.
    copy = Path(scratch, 'copy')
    marks = [time.perf_counter()]
    for part in (
      lambda: checkpoints.save(1, state._asdict(), {}),
      checkpoints.wait,
      lambda: shutil.copytree(checkpoints.folder / '1', copy),
      lambda: manifest.write(copy, {}),
      lambda: manifest.check(copy, {}),
    ):
      part()
      marks.append(time.perf_counter())
  blocked, rest, _, write, check = np.diff(marks).tolist()
  return [blocked, blocked + rest, write, check]


def wait_for_input(setup: Setup) -> str:
  """Tells which share of its steps the train loop waits for batches."""
  rows = []
  num_steps = setup.num_rounds * _INPUT_STEPS_PER_ROUND
  for name, config in setup.configs.items():
    session = setup.session(config)
    with (
      tempfile.TemporaryDirectory() as scratch,
      # The loop prints where its time goes.
      contextlib.redirect_stdout(sys.stderr),
    ):
      loop.train(
        session.training_task,
        functools.partial(batches.prefetch, session.batches),
        loop.Schedule(num_steps, config.train.log_every, num_steps),
        config.train.optimizer, seeds=session.seeds,
        mesh=sharding.make_mesh(jax.devices()[:1]), folder=Path(scratch),
        writer=MetricsWriter(Path(scratch)), label='train', identity={},
      )  # fmt: skip
      found = json.loads(Path(scratch, 'goodput.jsonl').read_text())['seconds']
    data, step = found['data'], found['step']
    rows.append([
      f'{name}, {num_steps} steps', f'{data / (data + step):.2%}',
      *(f'{1000 * x / num_steps:.2f}' for x in (data, step)),
      *(f'{found[x]:.1f}' for x in ('compile', 'save', 'wall')),
    ])  # fmt: skip
  header = ['', 'waits', 'data, ms', 'step, ms', 'compile, s', 'save, s', 'all']
  return measuring.table(header, rows)


# What is compared: configs, and steps in one call of the device.
_SIDES: dict[str, Callable[[Config], dict[str, tuple[Config, int | None]]]] = {
  'replicas': lambda c: {
    f'{n} at once': (change(c, 'train', replicas=n), None) for n in (4, 1)
  },
  'precision': lambda c: {
    x: (change(c, 'model', dtype=x), None) for x in ('bfloat16', 'float32')
  },
  'scan': lambda c: {
    f'{n} a call': (change(c, 'train', steps_per_call=8), n) for n in (8, 1)
  },
}


def ratios(section: str, setup: Setup) -> str:
  """Compares a step of two sides that `section` names."""
  rows, names = [], []
  for row, config in setup.configs.items():
    sides = {x: Ours(setup, *y) for x, y in _SIDES[section](config).items()}
    names = list(sides)
    found, _ = time_steps(sides, setup.num_rounds)
    first, second = (1000 * found[x] for x in names)
    rows.append([
      row, measuring.spread(first / second, 3), measuring.spread(first, 1),
      measuring.spread(second, 1),
    ])  # fmt: skip
  header = ['', ' / '.join(names), *(f'{x}, ms a step' for x in names)]
  return measuring.table(header, rows)


# Each with the models it trains, and those it trains when time is short.
SECTIONS: dict[str, tuple[Callable[[Setup], str], str, str]] = {
  't5': (t5, 'd128 d384', 'd128'),
  'replicas': (lambda x: ratios('replicas', x), 'small d128', 'small'),
  'saving': (saving, 'd384', 'd128'),
  'input': (wait_for_input, 'small', 'small'),
  'precision': (lambda x: ratios('precision', x), 'small d128', 'small'),
  'scan': (lambda x: ratios('scan', x), 'small d128', 'small'),
}


def change(config: Config, section: str, **values: Any) -> Config:
  """Returns a config with some values of a section changed."""
  changed = dataclasses.replace(getattr(config, section), **values)
  return dataclasses.replace(config, **{section: changed})


def made_up() -> tuple[Dataset, SemanticIds]:
  """Draws a shop of Beauty's sizes; nobody has a taste in it."""
  rng = np.random.default_rng(0)
  ids = requests.ids_of(None)
  lengths = np.interp(rng.random(_NUM_USERS), _SHARES, _EVENTS).astype(np.int64)
  names = tuple(map(str, range(_NUM_USERS)))
  items = Items(names[: len(ids.codes)], {})
  history = rng.integers(0, len(items), lengths.sum(), np.int32)
  offsets = np.concatenate([[0], np.cumsum(lengths)])
  return Dataset('made up', items, names, history, offsets), ids


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line. Flags of absl would clash with those of main."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--quick', action='store_true', help='small sizes')
  parser.add_argument('--workdir', type=Path, help='a run')
  parser.add_argument('--rounds', type=int, help='10, with --quick 3')
  parser.add_argument('--section', choices=SECTIONS, action='append')
  parser.add_argument('--threads', type=int, default=2, help='cores to use')
  found = parser.parse_args(arguments)
  found.rounds = found.rounds or (3 if found.quick else 10)
  found.section = found.section or list(SECTIONS)
  return found


def main(arguments: Sequence[str]) -> None:
  """Prints the sections asked for."""
  options = parse(arguments)
  flags.FLAGS.mark_as_parsed()  # Grain reads them.
  measuring.use_cores(options.threads)
  if folder := options.workdir:
    dataset = Dataset.load(folder / 'data')
    ids = SemanticIds.load(folder / 'semantic_ids')
  else:
    dataset, ids = made_up()
  small = config_dict.parse(beauty.get_config('cpu'))
  base = config_dict.parse(beauty.get_config())
  base = change(base, 'model', dtype='float32')
  base = change(base, 'train', batch_size=256, steps_per_call=1)
  wide = change(base, 'model', d_model=384)
  configs = {'small': small, 'd128': base, 'd384': wide}
  if options.quick:
    for name, config in configs.items():
      few = config.train.length_buckets[-1 if name == 'small' else -3 :: 2]
      configs[name] = change(config, 'train', batch_size=64, length_buckets=few)
  print(measuring.environment(*filter(importlib.util.find_spec, _PEERS)))
  for section in options.section:
    measure, *names = SECTIONS[section]
    chosen = {x: configs[x] for x in names[options.quick].split()}
    print(f'\n## {section}\n', flush=True)
    start = time.perf_counter()
    print(measure(Setup(dataset, ids, chosen, options.rounds)))
    print(f'\n{time.perf_counter() - start:.0f} s', flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
