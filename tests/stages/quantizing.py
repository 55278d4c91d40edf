"""Helpers that run the Semantic ID stage on random items."""

import contextlib
from unittest import mock

import numpy as np

from tiger_jax.config import Config, SemanticIdsConfig
from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.report import pictures
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.stages import semantic_ids


def make_items(num_items, name='shop'):
  fields = dict.fromkeys(FIELDS, ('',) * num_items)
  fields['categories'] = tuple(f'All > {"AB"[i % 2]}' for i in range(num_items))
  return Items(tuple(f'{name}-{i}' for i in range(num_items)), fields)


def make_dataset(num_items, unseen=()):
  return Dataset(
    'shop', make_items(num_items), (), np.zeros(0, np.int32),
    np.zeros(1, np.int64), unseen=np.array(unseen, np.int32),
  )  # fmt: skip


def make_embeddings(num_items, seed=0, dim=6):
  rng = np.random.default_rng(seed)
  centers = np.random.default_rng(99).normal(size=(8, dim))
  x = centers[rng.integers(8, size=num_items)]
  return (x + 0.3 * rng.normal(size=(num_items, dim))).astype(np.float32)


def make_config(**changes):
  settings = {
    'codebook_sizes': (4, 4),
    'latent_dim': 4,
    'hidden_dims': (8,),
    'batch_size': 16,
    'epochs': 3,
    'restart_epochs': 2,
  }
  return Config(semantic_ids=SemanticIdsConfig(**settings | changes))


def make_shop(name, embeddings):
  return semantic_ids.Shop(name, name, embeddings)


def build(
  folder,
  config,
  embeddings,
  other_shops=(),
  name='shop',
  writer_class=MetricsWriter,
  unseen=(),
  draws=False,
):
  """Runs the stage. Pictures take most of its time, so few tests draw them."""
  folder.mkdir(exist_ok=True)
  writer = writer_class(folder)
  skipped = mock.patch.object(pictures, 'draw')
  with contextlib.nullcontext() if draws else skipped:
    semantic_ids.build(
      config,
      make_dataset(len(embeddings), unseen),
      make_shop(name, embeddings),
      other_shops,
      folder / 'semantic_ids',
      writer,
    )
  writer.close()
  return folder / 'semantic_ids'
