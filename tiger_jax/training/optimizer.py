"""Optimizers with their learning rate schedules."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tiger_jax.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
  """Returns a function from the number of steps done to the learning rate."""
  rate, warmup = config.learning_rate, config.warmup_steps
  if config.recipe == 'adamw':
    return optax.warmup_cosine_decay_schedule(
      0.0 if warmup else rate, rate, warmup, max(num_steps, warmup + 1)
    )
  if config.recipe == 'adafactor':
    flat = max(warmup, 1)
    return lambda step: rate * jnp.sqrt(flat / jnp.maximum(step, flat))
  return optax.constant_schedule(rate)


def make_optimizer(
  config: OptimizerConfig, num_steps: int
) -> optax.GradientTransformation:
  """Returns the optimizer of `config.recipe`, with gradient clipping.

  `adafactor` is the paper's recipe for the sequence model (section 4.1: rate
  0.01 for 10,000 steps, then inverse square root decay). The paper does not
  name the optimizer, but the default of its framework is Adafactor. `adagrad`
  is the paper's optimizer for the RQ-VAE. Reproductions use `adamw`; its rate
  decays to zero over `num_steps`.
  """
  rate = learning_rate(config, num_steps)
  if config.recipe == 'adamw':
    # This is `optax.adamw` with selective decay. The `mask` argument of
    # `optax.adamw` would change the structure of the optimizer state, so older
    # checkpoints could not be restored.
    update = optax.chain(
      optax.scale_by_adam(),
      optax.stateless(functools.partial(_add_decay, config.weight_decay)),
      optax.scale_by_learning_rate(rate),
    )
  elif config.recipe == 'adafactor':
    update = optax.adafactor(rate)
  else:
    update = optax.adagrad(rate)
  return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)


def _add_decay(weight_decay: float, updates: Any, params: Any) -> Any:
  """Adds weight decay to the updates of kernels, embeddings and codebooks.

  Norm scales, tables of biases and single vectors do not decay.
  """

  def add(path: Any, update: jax.Array, x: jax.Array) -> jax.Array:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if x.ndim < 2 or name.endswith('_bias/table'):
      return update
    return update + weight_decay * x

  return jax.tree.map_with_path(add, updates, params)
