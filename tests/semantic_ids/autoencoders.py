"""Makes item embeddings, and small RQ-VAEs and VQ-VAEs, for tests."""

import dataclasses

import jax
import numpy as np

from tiger_jax.config import SemanticIdsConfig
from tiger_jax.semantic_ids.item_batches import ItemBatches
from tiger_jax.semantic_ids.quantizers.autoencoder_task import AutoencoderTask
from tiger_jax.semantic_ids.quantizers.rq_vae import RqVae

CONFIG = SemanticIdsConfig(
  codebook_sizes=(8, 8, 8),
  latent_dim=4,
  hidden_dims=(16, 12),
  batch_size=32,
  epochs=60,
  restart_epochs=40,
)


def embeddings(num_items=96, dim=10):
  rng = np.random.default_rng(0)
  centers = rng.normal(size=(8, dim))
  x = centers[rng.integers(8, size=num_items)]
  return (x + 0.3 * rng.normal(size=(num_items, dim)) + 5).astype(np.float32)


def make_task(model_class=RqVae, x=None, **changes):
  config = dataclasses.replace(CONFIG, **changes)
  items = ItemBatches(
    embeddings() if x is None else x, config.batch_size, seed=0
  )
  return AutoencoderTask(model_class, config, items)


def make_after_update(task):
  """Returns a jitted `after_update` that takes a batch in place of `seen`."""

  @jax.jit
  def after_update(params, tables, batch, step, rng):
    seen = task.loss(params, tables, batch, rng)[2]
    return task.after_update(params, tables, seen, step, rng)

  return after_update
