"""Benchmarks of training: PyTorch, replicas, saving, input, precision.

  python benchmarks/training.py --quick
  python benchmarks/training.py --workdir=runs/beauty --section=t5

--workdir is a run of configs/beauty.py to train on. The default is random data
of the size of Beauty. Section t5 needs `pip install -e '.[bench]'`, and raises
`Mismatch` if results differ. Other running programs make PyTorch much slower.
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

# Finds the packages if this file is run as a script.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags
import jax
import numpy as np

from benchmarks import measuring, requests
from configs import beauty
from tiger_jax.checkpoints import manifest
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.config import Config, config_dict
from tiger_jax.data import batches
from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.interfaces import Batch
from tiger_jax.models.targets import next_items
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.runtime import sharding
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.training import loop
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.step import init_state, make_steps

# A share `_SHARES[i]` of the users of Beauty has at most `_EVENTS[i]` events.
_NUM_USERS = 22_363
_SHARES = (0, 0.32, 0.51, 0.63, 0.71, 0.77, 0.9, 0.944, 0.977, 0.991, 0.999, 1)
_EVENTS = (5, 6, 7, 8, 9, 10, 15, 20, 30, 45, 93, 205)
_PEERS = ('torch', 'transformers')


class Setup(NamedTuple):
  """The input of a section: a dataset, and the configs to train."""

  dataset: Dataset
  ids: SemanticIds
  configs: Mapping[str, Config]
  num_rounds: int

  def session(self, config: Config) -> Session:
    """Returns the session of a config."""
    return Session.open(config, Inputs(self.dataset, self.ids))


class Ours:
  """Runs training steps in the same way as the train loop.

  Attributes:
    network, task: The network and the training task.
    stacks: The first stack of batches of each sequence length, on the host.
    shares: The share of each width among the batches of an epoch.
    targets: The mean number of target items per batch.
    steps: The number of steps that a call of `take` runs.
    state: The current state.
  """

  def __init__(self, setup: Setup, config: Config, steps_per_call: int = 0):
    """Creates the initial state; `steps_per_call` overrides the config."""
    session = setup.session(config)
    self._source = source = session.batches
    self.steps = source.steps_per_call
    calls = range(source.steps_per_epoch // self.steps)
    widths = [source.width(call) for call in calls]
    self.shares = {w: widths.count(w) / len(calls) for w in sorted(set(widths))}
    self.stacks = {w: self._stack(widths.index(w)) for w in self.shares}
    self.targets = float(config.train.batch_size)
    if config.model.causal_encoder:
      is_target = [next_items(self.batch(call)) >= 0 for call in calls]
      self.targets = float(np.mean([x.sum() for x in is_target]))
    self._steps_per_call = steps_per_call or self.steps
    self.network, self.task = session.network, session.training_task
    optimizer = make_optimizer(config.train.optimizer, config.train.steps)
    seeds = session.seeds
    self._steps_fn = make_steps(self.task, optimizer, seeds)
    self._tables = jax.device_put(self.task.tables)
    self.state = jax.jit(lambda: init_state(self.task, optimizer, seeds))()

  def batch(self, call: int) -> Batch:
    """Returns the item rows of the first batch of a call."""
    first = jax.tree.map(lambda x: x[0], self._stack(call))
    return first.gather(self._source.events)

  def take(self, width: int) -> dict[str, np.ndarray]:
    """Runs the steps of the stack with this width; returns the last metrics."""
    for i in range(0, self.steps, self._steps_per_call):
      rows = slice(i, i + self._steps_per_call)
      part = jax.tree.map(lambda x, rows=rows: x[rows], self.stacks[width])
      self.state, results = self._steps_fn(self.state, self._tables, part)
    jax.block_until_ready(self.state)
    return {x: y[-1] for x, y in jax.device_get(results.metrics).items()}

  def _stack(self, call: int) -> Any:
    return self._source.stack(call * self.steps, (call + 1) * self.steps)


def time_steps(
  sides: Mapping[str, Any], num_rounds: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
  """Times the steps of several sides in turns.

  Args:
    sides: The trainers, by name. Their `shares` map each group of batches to
      its share of an epoch. `take(group)` runs `steps` steps on this group.
    num_rounds: The number of timed rounds.

  Returns:
    Two dicts by side. The first has the mean seconds per step of each round.
    The second has the seconds of the first calls, which compile.
  """
  calls, first = {}, dict.fromkeys(sides, 0.0)
  for name, side in sides.items():
    for key in side.shares:
      start = time.perf_counter()
      side.take(key)
      first[name] += time.perf_counter() - start
      calls[name, key] = lambda i, side=side, key=key: side.take(key)
  times = measuring.in_turns(calls, num_rounds)
  seconds = {
    name: sum(share * times[name, x] for x, share in side.shares.items())
    / side.steps
    for name, side in sides.items()
  }
  return seconds, first


def t5(setup: Setup, peers: Sequence[str] = _PEERS) -> str:
  """Compares training with Hugging Face's T5 in PyTorch."""
  if not all(map(importlib.util.find_spec, peers)):
    return "skipped: pip install -e '.[bench]'"
  if measuring.on_accelerator():
    return 'skipped: the peer runs on a CPU, but JAX uses an accelerator'
  from benchmarks.peers import hf_t5_training

  time_fn = functools.partial(time_steps, num_rounds=setup.num_rounds)
  make_ours = functools.partial(Ours, setup)
  codes = setup.ids.codes
  return hf_t5_training.measure(setup.configs, codes, make_ours, time_fn)


def saving(setup: Setup) -> str:
  """Measures the time of a save, also as a share of the time between saves."""
  rows = []
  for name, config in setup.configs.items():
    ours = Ours(setup, config)
    step = np.median(time_steps({'': ours}, setup.num_rounds)[0][''])
    size = sum(x.nbytes for x in jax.tree.leaves(ours.state)) / 1e6
    # The first save compiles the check for values that are not finite.
    times = [_save(ours.state) for _ in range(setup.num_rounds + 1)][1:]
    blocked, done, write, check = np.array(times).T
    period = step * config.train.evaluate_every
    rows.append([
      f'{name}, {size:.0f} MB', measuring.spread(1000 * blocked, 0),
      measuring.spread(done), measuring.spread(write / done),
      measuring.spread(check), f'{1000 * step:.0f}',
      f'{np.median(blocked) / period:.3%}', f'{np.median(done) / period:.2%}',
    ])  # fmt: skip
  header = ['', 'training blocked, ms', 'on disk after, s', 'manifest share',
            'manifest.check, s', 'step, ms', 'blocked, share of save interval',
            'on disk after, share of save interval']  # fmt: skip
  return measuring.table(header, rows)


def _save(state: Any) -> list[float]:
  """Times a save, and the work on a manifest; returns four times in seconds."""
  with (
    tempfile.TemporaryDirectory() as scratch,
    Checkpoints(Path(scratch, 'checkpoints'), {}) as checkpoints,
  ):
    # Unlike the checkpoint, the files of this copy are not flushed to disk yet.
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
  blocked, waited, _, write, check = np.diff(marks).tolist()
  # Until `save` returns, until all is on disk, for `write`, and for `check`.
  return [blocked, blocked + waited, write, check]


def wait_for_input(setup: Setup, steps_per_round: int = 80) -> str:
  """Measures the share of time that the train loop waits for batches."""
  rows = []
  num_steps = setup.num_rounds * steps_per_round
  for name, config in setup.configs.items():
    session = setup.session(config)
    with (
      tempfile.TemporaryDirectory() as scratch,
      # The train loop prints a summary, which does not belong to the table.
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
      goodput = json.loads(Path(scratch, 'goodput.jsonl').read_text())
    seconds = goodput['seconds']
    data, step = seconds['data'], seconds['step']
    rows.append([
      f'{name}, {num_steps} steps', f'{data / (data + step):.2%}',
      *(f'{1000 * x / num_steps:.2f}' for x in (data, step)),
      *(f'{seconds[x]:.1f}' for x in ('compile', 'save', 'wall')),
    ])  # fmt: skip
  header = ['', 'share of time waiting for batches', 'waiting per step, ms',
            'step, ms', 'compile, s', 'save, s', 'total, s']  # fmt: skip
  return measuring.table(header, rows)


# The two sides of each comparison: a config, and the steps per jitted call.
_SIDES: dict[str, Callable[[Config], dict[str, tuple[Config, int]]]] = {
  'replicas': lambda c: {
    f'{n} replicas': (change(c, 'train', replicas=n), 0) for n in (4, 1)
  },
  'precision': lambda c: {
    x: (change(c, 'model', dtype=x), 0) for x in ('bfloat16', 'float32')
  },
  'scan': lambda c: {
    f'{n} per call': (change(c, 'train', steps_per_call=8), n) for n in (8, 1)
  },
}


def ratios(section: str, setup: Setup) -> str:
  """Compares the step time of the two sides of a section."""
  rows, names = [], []
  for row, config in setup.configs.items():
    sides = {x: Ours(setup, *y) for x, y in _SIDES[section](config).items()}
    names = list(sides)
    seconds, _ = time_steps(sides, setup.num_rounds)
    first, second = (1000 * seconds[x] for x in names)
    rows.append([
      row, measuring.spread(first / second, 3), measuring.spread(first, 1),
      measuring.spread(second, 1),
    ])  # fmt: skip
  header = ['', ' / '.join(names), *(f'{x}, ms per step' for x in names)]
  return measuring.table(header, rows)


# By section: the function, the models to train, and the models with --quick.
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


def synthetic() -> tuple[Dataset, SemanticIds]:
  """Draws a random dataset of Beauty's size, and random Semantic IDs."""
  rng = np.random.default_rng(0)
  ids = requests.ids_of(None)
  lengths = np.interp(rng.random(_NUM_USERS), _SHARES, _EVENTS).astype(np.int64)
  names = tuple(map(str, range(_NUM_USERS)))
  items = Items(names[: len(ids.codes)], {})
  history = rng.integers(0, len(items), lengths.sum(), np.int32)
  offsets = np.concatenate([[0], np.cumsum(lengths)])
  return Dataset('synthetic', items, names, history, offsets), ids


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Parses the command line; absl flags would clash with those of main.py."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--quick', action='store_true', help='use small sizes')
  parser.add_argument('--workdir', type=Path, help='a run to train on')
  parser.add_argument(
    '--rounds', type=int, help='number of timed rounds (10; 3 with --quick)'
  )
  parser.add_argument('--section', choices=SECTIONS, action='append')
  parser.add_argument('--threads', type=int, default=2, help='number of cores')
  options = parser.parse_args(arguments)
  options.rounds = options.rounds or (3 if options.quick else 10)
  options.section = options.section or list(SECTIONS)
  return options


def main(arguments: Sequence[str]) -> None:
  """Prints the selected sections."""
  options = parse(arguments)
  flags.FLAGS.mark_as_parsed()  # Grain reads absl flags.
  measuring.use_cores(options.threads)
  if folder := options.workdir:
    dataset = Dataset.load(folder / 'data')
    ids = SemanticIds.load(folder / 'semantic_ids')
  else:
    dataset, ids = synthetic()
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
    selected = {x: configs[x] for x in names[options.quick].split()}
    print(f'\n### {section}\n', flush=True)
    start = time.perf_counter()
    print(measure(Setup(dataset, ids, selected, options.rounds)))
    print(f'\n{time.perf_counter() - start:.0f} s', flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
