"""Makes a small TIGER model, and batches for it."""

import jax.numpy as jnp
import numpy as np

from tiger_jax.config import ModelConfig
from tiger_jax.data.splits import Examples, Excerpts
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.training.look_up import LookUp

NUM_ITEMS = 30
NUM_EVENTS = 200
WIDTH = 4


def make_task(events=None, level_sizes=(5, 5, 2), **changes):
  """Returns a task with a small TIGER model.

  If `events` are given, the task takes excerpts instead of batches.
  """
  config = {
    'max_history': WIDTH,
    'd_model': 8,
    'num_heads': 2,
    'head_dim': 4,
    'mlp_dim': 16,
    'num_encoder_layers': 1,
    'num_decoder_layers': 1,
    'dropout': 0.3,
    'num_user_tokens': 3,
  }
  codes = np.stack(np.unravel_index(np.arange(NUM_ITEMS), (5, 3, 2)), axis=1)
  task = TigerTask(
    Tiger(ModelConfig(**config | changes), level_sizes),
    jnp.asarray(codes, jnp.int32),
  )
  return task if events is None else LookUp(task, events)


def make_events():
  rng = np.random.default_rng(7)
  return rng.integers(0, NUM_ITEMS, NUM_EVENTS).astype(np.int32)


def make_batch(step, size=16):
  rng = np.random.default_rng(step)
  history = rng.integers(0, NUM_ITEMS, (size, WIDTH)).astype(np.int32)
  lengths = rng.integers(1, WIDTH + 1, size)
  history[np.arange(WIDTH)[None] >= lengths[:, None]] = -1
  target = rng.integers(0, NUM_ITEMS, size).astype(np.int32)
  target[-1] = -1  # A padding row.
  user = rng.integers(-1, 9, size).astype(np.int32)
  return Batch(history, user, target)


def make_stack(start, stop, size=16):
  """Returns the batches of steps `start` to `stop - 1` as one stack."""
  steps = [make_batch(step, size) for step in range(start, stop)]
  return Batch(*map(np.stack, zip(*steps, strict=True)))


def make_excerpts(start, stop, size=16):
  """Returns a stack of batches as excerpts of the events of `make_events`."""
  rng = np.random.default_rng(start)
  shape = (stop - start, size)
  first = rng.integers(0, NUM_EVENTS - WIDTH - 1, shape).astype(np.int32)
  lengths = rng.integers(1, WIDTH + 1, shape).astype(np.int32)
  user = rng.integers(0, 9, shape).astype(np.int32)
  return Excerpts(Examples(user, first, first + lengths), WIDTH)
