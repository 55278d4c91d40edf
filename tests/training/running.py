"""Small tasks, and runs of the train loop.

If this file is run as a program, it trains a task and kills its own process.
"""

import hashlib
import json
import os
from pathlib import Path
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.config import OptimizerConfig
from tiger_jax.data import batches
from tiger_jax.data.sources import synthetic
from tiger_jax.data.splits import Excerpts, gather, split
from tiger_jax.runtime.sharding import make_mesh
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.training import loop
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.schedule import Schedule
from tiger_jax.training.step import init_state

STEPS = 10
RECIPE = OptimizerConfig(learning_rate=0.1, warmup_steps=2)


class Noisy:
  """Learns a vector per item from a random half of every history."""

  def __init__(self, events=None, keep=0.5, dim=4):
    self.tables = {'keep': np.float32(keep), 'events': events}
    self.dim = dim

  def init(self, rng):
    return {'table': jax.random.normal(rng, (600, self.dim))}

  def loss(self, params, tables, batch, rng):
    if isinstance(batch, Excerpts):
      batch = gather(tables['events'], batch.examples, batch.width)
    x = params['table'][batch.history] * (batch.history >= 0)[..., None]
    kept = jax.random.bernoulli(rng, tables['keep'], x.shape)
    x = jnp.where(kept, x, 0).sum(axis=1)
    loss = jnp.square(x - params['table'][batch.target]).mean()
    return loss, {'double': 2 * loss}, ()

  def after_update(self, params, tables, seen, step, rng):
    noise = jax.random.normal(rng, params['table'].shape)
    return {'table': params['table'] + 1e-3 * noise}


class Counter:
  """A task whose parameter and loss are the number of steps done.

  Attributes:
    bad: The value that becomes NaN or infinite: `loss`, `gradient`, `metric`,
      or `parameter` (the result of the step).
    at: The bad step, counted from 1.
    of: The bad batches, as batch numbers counted from 0.
  """

  tables = ()

  def __init__(self, bad='loss', at=0, of=()):
    self.bad = bad
    self.at = at
    self.of = of

  def init(self, rng):
    return {'count': jnp.zeros(())}

  def loss(self, params, tables, batch, rng):
    steps = jax.lax.stop_gradient(params['count']) + 1
    is_bad = steps == self.at
    if len(self.of):
      is_bad = is_bad | (batch[0] == np.asarray(self.of)).any()
    nan = {
      name: jnp.where(is_bad & (self.bad == name), jnp.nan, 0)
      for name in ('loss', 'metric')
    }
    # The square root of zero is finite, but its derivative is not.
    root = jnp.sqrt(
      jnp.where(is_bad & (self.bad == 'gradient'), 0 * params['count'], 1.0)
    )
    loss = steps + nan['loss'] + root - jax.lax.stop_gradient(root)
    metrics = {
      'seen': jnp.mean(batch) + nan['metric'],
      'draw': jax.random.uniform(rng),
    }
    return loss, metrics, is_bad

  def after_update(self, params, tables, seen, step, rng):
    is_bad = seen & (self.bad == 'parameter')
    return {'count': jnp.where(is_bad, jnp.inf, step + 1.0)}


class Run:
  """A run in a workdir. A call trains or resumes it, as a new process would.

  Attributes:
    numbers: The batch numbers that `counting` has yielded, in order.
  """

  def __init__(self, workdir, steps_per_call=1, **settings):
    self.workdir = Path(workdir)
    self.steps_per_call = steps_per_call
    self.settings = settings
    self.numbers = []

  def __call__(self, task, source=None, num_steps=STEPS, **changes):
    settings = {'log_every': 1, 'save_every': 5, 'seed': 1, 'identity': {}}
    settings |= self.settings | changes
    schedule = Schedule(
      num_steps,
      settings.pop('log_every'),
      settings.pop('save_every'),
      settings.pop('rewind', None),
    )
    seed = settings.pop('seed')
    return loop.train(
      task,
      source or self.counting,
      schedule,
      RECIPE,
      **{'seeds': [seed], 'writer': MetricsWriter(self.workdir)} | settings,
      mesh=make_mesh(jax.devices()[:1]),
      folder=self.workdir,
      label='train',
    )

  def counting(self, start, stop):
    """Yields stacks of batches; each batch contains its own batch number."""
    for first in range(start, stop, self.steps_per_call):
      numbers = range(first, min(first + self.steps_per_call, stop))
      self.numbers += numbers
      yield np.stack([numbered(number) for number in numbers])

  def stopping(self, at, source=None, error=None):
    """Returns a source that is interrupted when step `at` is read.

    The source raises `error` if it is given. Otherwise, it sends SIGTERM.
    """

    def read(start, stop):
      step = start
      for stack in (source or self.counting)(start, stop):
        step += len(jax.tree.leaves(stack)[0])
        if step >= at > step - len(jax.tree.leaves(stack)[0]):
          if error:
            raise error
          os.kill(os.getpid(), signal.SIGTERM)
        yield stack

    return read

  def lines(self):
    text = (self.workdir / 'metrics.jsonl').read_text()
    return [json.loads(line) for line in text.splitlines()]

  def steps(self, name='loss'):
    return [line['step'] for line in self.lines() if name in line]

  def ledger(self):
    """Returns the digests of the batches in the ledger, see `digests`."""
    lines = (self.workdir / 'ledger').read_text().splitlines()
    return [line.split()[0] for line in lines]

  def trained_on(self):
    """Returns the batch numbers in the ledger."""
    lines = (self.workdir / 'ledger').read_text().splitlines()
    return [int(line.split()[1]) for line in lines]

  def goodput(self):
    text = (self.workdir / 'goodput.jsonl').read_text()
    return [json.loads(line) for line in text.splitlines()]

  def saved(self):
    with Checkpoints(self.workdir / 'checkpoints', {}) as checkpoints:
      return checkpoints.steps()

  def best(self):
    """Returns the step of the checkpoint with the best score."""
    with Checkpoints(self.workdir / 'checkpoints', {}, 'score') as checkpoints:
      return checkpoints.by_metric()[0]


def first_state(task):
  """Returns the initial state of a run, in the form that is saved."""
  optimizer = make_optimizer(RECIPE, STEPS)
  return init_state(task, optimizer, [1])._asdict()


def numbered(number):
  return np.full(2, number, np.float32)


def digests(numbers):
  """Returns the digests of the batches with these batch numbers."""
  return [
    hashlib.sha256(numbered(number).tobytes()).hexdigest()[:16]
    for number in numbers
  ]


def real_task(steps_per_call=1, widths=(10, 20)):
  """Returns a task, and batches of the synthetic shop for it."""
  dataset = synthetic.make(30, 0)
  source = batches.TrainBatches(
    dataset, split(dataset, 'train'), 16, widths, 1, steps_per_call
  )
  return Noisy(source.events), lambda *steps: batches.prefetch(source, *steps)


def assert_same_bits(tree, expected):
  for a, b in zip(
    jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True
  ):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def measured(lines):
  """Returns metrics without times, which differ between runs."""
  return [
    {
      name: value
      for name, value in line.items()
      if name not in ('time', 'examples_per_second')
    }
    for line in lines
  ]


def main(folder, die_after):
  task, read = real_task()

  def dying(start, stop):
    for step, stack in enumerate(read(start, stop), start):
      if step == die_after:
        while not (folder / 'checkpoints' / '5').exists():
          time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
      yield stack

  Run(folder)(task, dying)


if __name__ == '__main__':
  jax.config.update('jax_platforms', 'cpu')
  # As in tests/conftest.py: the order of sums depends on the number of devices.
  jax.config.update('jax_num_cpu_devices', 8)
  main(Path(sys.argv[1]), int(sys.argv[2]))
