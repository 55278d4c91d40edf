"""Compares the training speed of the RQ-VAE with PyTorch."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Float
import numpy as np

from benchmarks import measuring
from tiger_jax.config import SemanticIdsConfig
from tiger_jax.runtime import sharding
from tiger_jax.semantic_ids.item_batches import ItemBatches
from tiger_jax.semantic_ids.quantizers.autoencoder_task import (
  AutoencoderTask,
  Params,
)
from tiger_jax.semantic_ids.quantizers.rq_vae import RqVae
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.step import init_state, make_steps

_CALLS_PER_ROUND = 4
_CHECKED_STEPS = 10


class Ours:
  """Runs training steps in the same way as the train loop.

  Attributes:
    task: The training task.
    source: The batches.
    config: The config of the quantizer.
    num_steps: The number of steps of a whole run.
    steps_per_round: The number of steps of `round`.
    state: The current state.
  """

  def __init__(
    self, embeddings: Float[np.ndarray, 'items dim'], config: SemanticIdsConfig
  ):
    """Creates the initial state, including k-means.

    Args:
      embeddings: The vectors of all items.
      config: The settings of the quantizer and of its training.
    """
    self.config = config
    self.source = ItemBatches(embeddings, config.batch_size, seed=0)
    self.task = AutoencoderTask(RqVae, config, self.source)
    self.num_steps = config.epochs * self.source.steps_per_epoch
    optimizer = make_optimizer(config.optimizer, self.num_steps)
    self.steps_per_round = _CALLS_PER_ROUND * self.source.steps_per_call
    seeds = [0]
    self.state = init_state(self.task, optimizer, seeds)
    self._steps_fn = make_steps(self.task, optimizer, seeds)
    self._mesh = sharding.make_mesh(jax.devices()[:1])
    self._next = 0

  def take(self, num_steps: int) -> np.ndarray:
    """Runs steps in one call, and returns their losses."""
    # Unlike the train loop, this function reads the batches in this thread.
    stack = self.source.stack(self._next, self._next + num_steps)
    self._next += num_steps
    self.state, results = self._steps_fn(
      self.state, self.task.tables, sharding.shard_batch(self._mesh, stack, 1)
    )
    return np.asarray(jax.block_until_ready(results.metrics['loss']))

  def round(self, i: int) -> None:
    """Runs the steps of one round."""
    del i
    for _ in range(_CALLS_PER_ROUND):
      self.take(self.source.steps_per_call)


def measure(
  embeddings: Float[np.ndarray, 'items dim'],
  num_rounds: int,
  num_threads: int,
) -> str:
  """Times training steps on a CPU.

  Args:
    embeddings: The vectors of all items.
    num_rounds: The number of timed rounds.
    num_threads: The number of threads of each side.

  Returns:
    A Markdown table.
  """
  # torch is not a dependency of the package, and slow to import.
  import torch

  torch.set_num_threads(num_threads)
  rows, notes = [], []
  for batch_size in (1024, 256):
    ours = Ours(embeddings, _config(batch_size, restart_epochs=0))
    restarting = Ours(embeddings, _config(batch_size, restart_epochs=1000))
    theirs = _Theirs(ours)
    notes.append(_check(ours, theirs))
    sides: dict[str, Callable[[int], Any]] = {
      'ours': ours.round,
      'torch': theirs.round,
      'ours, restarts': restarting.round,
    }
    for side in sides.values():
      side(0)  # Compiles.
    seconds = measuring.in_turns(sides, num_rounds)
    for name, per_round in seconds.items():
      rows.append([
        f'{name}, batch {batch_size}',
        measuring.spread(1000 * per_round / ours.steps_per_round),
        measuring.spread(seconds['torch'] / per_round),
      ])  # fmt: skip
  header = ['', 'ms per step', 'speed relative to torch']
  return '\n'.join([
    measuring.table(header, rows),
    '',
    f'{num_rounds} rounds. With the same weights and batches:',
    *(f'- {note}' for note in notes),
  ])  # fmt: skip


class _Theirs:
  """Trains the same network in PyTorch, from our weights and batches."""

  def __init__(self, ours: Ours):
    import torch

    from benchmarks.peers import torch_rq_vae

    config, params = ours.config, jax.device_get(ours.state.params)
    self.trainer = torch_rq_vae.Trainer(
      torch_rq_vae.RqVae(*_weights(params), beta=config.beta),
      learning_rate=config.optimizer.learning_rate,
      weight_decay=config.optimizer.weight_decay,
      clip_norm=config.optimizer.clip_norm,
      num_steps=ours.num_steps,
    )
    self._source = ours.source
    mean, std = ours.task.tables['mean'], ours.task.tables['std']
    self._x = torch.tensor((ours.source.embeddings - mean) / std)
    self._steps_per_round = ours.steps_per_round
    self._next = 0

  def batch(self, step: int) -> Any:
    """Returns a batch of standardized vectors."""
    import torch

    return self._x[torch.from_numpy(self._source.rows(step))]

  def take(self, num_steps: int) -> np.ndarray:
    """Runs steps, and returns their losses."""
    losses = []
    for _ in range(num_steps):
      losses.append(self.trainer.step(self.batch(self._next)))
      self._next += 1
    return np.array([loss.item() for loss in losses])

  def round(self, i: int) -> None:
    """Runs the steps of one round."""
    del i
    self.take(self._steps_per_round)


def _config(batch_size: int, restart_epochs: int) -> SemanticIdsConfig:
  return SemanticIdsConfig(batch_size=batch_size, restart_epochs=restart_epochs)


def _check(ours: Ours, theirs: _Theirs) -> str:
  """Compares gradients, and the losses of the first steps."""
  tables = jax.device_put(ours.task.tables)
  value_and_grad = jax.jit(
    jax.value_and_grad(
      lambda params, x: ours.task.loss(params, tables, x, jax.random.key(0))[0]
    )
  )
  errors = []
  for step in range(5):
    _, gradients = value_and_grad(ours.state.params, ours.source[step])
    errors.append(
      max(
        float(np.linalg.norm(a - b) / np.linalg.norm(b))
        for a, b in zip(
          _flat(gradients),
          theirs.trainer.gradients(theirs.batch(step)),
          strict=True,
        )
      )
    )
  # Because of rounding, a hidden unit near zero may be active on one side only.
  # A whole row of a gradient then differs, so the median over batches is used.
  gradient = float(np.median(errors))
  losses = [side.take(_CHECKED_STEPS) for side in (ours, theirs)]
  loss = float(np.abs(losses[0] / losses[1] - 1).max())
  if gradient > 1e-4 or loss > 2e-2:
    raise AssertionError(f'the trainings differ: {errors}, {losses}')
  return (
    f'batch {len(ours.source[0])}: gradients differ by {gradient:.0e} (the '
    'array with the largest difference, median of five batches). The losses of '
    f'{_CHECKED_STEPS} steps differ by at most {loss:.0e}.'
  )


def _weights(params: Params) -> tuple[Any, Any, Any]:
  network = params.model.autoencoder
  encoder, decoder = (
    [
      (
        np.array(mlp[f'Dense_{i}']['kernel']),
        np.array(mlp[f'Dense_{i}']['bias']),
      )
      for i in range(len(mlp))
    ]
    for mlp in (network.encoder, network.decoder)
  )
  return encoder, decoder, [np.array(x) for x in params.model.codebooks]


def _flat(params: Params) -> list[np.ndarray]:
  """Lists the arrays in the order of the peer's `parameters()`."""
  encoder, decoder, codebooks = _weights(params)
  layers = [x for k, b in (*encoder, *decoder) for x in (k.T, b)]
  return [*layers, *codebooks]
