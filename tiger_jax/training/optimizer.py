"""The recipes: an optimizer with its schedule."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tiger_jax.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
  """Returns the learning rate by the number of steps done."""
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
  """Builds a recipe, gradient clipping included.

  `adafactor` is for the sequence model (section 4.1 of the paper: rate 0.01 for
  10,000 steps, then inverse square root decay; it does not name the optimizer,
  but the default of its framework is Adafactor), and `adagrad` for the RQ-VAE.
  `adamw`, which reproductions use, decays to zero after `num_steps`.
  """
  rate = learning_rate(config, num_steps)
  if config.recipe == 'adamw':
    # `optax.adamw` with selective decay. Its `mask` argument would change the
    # state tree, and older checkpoints could not be restored.
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

  Norm scales, biases, position biases and single vectors do not decay.
  """

  def add(path: Any, update: jax.Array, x: jax.Array) -> jax.Array:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if x.ndim < 2 or name.endswith('position_bias/table'):
      return update
    return update + weight_decay * x

  return jax.tree.map_with_path(add, updates, params)
