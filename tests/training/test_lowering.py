"""Tests that every training program lowers for every platform."""

import jax
import numpy as np
import pytest

from tests.retrieval.lowered import assert_full_products
from tests.training.networks import (
  make_events,
  make_excerpts,
  make_stack,
  make_task,
)
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.config import ModelConfig, OptimizerConfig, SemanticIdsConfig
from tiger_jax.interfaces import ItemLists
from tiger_jax.models.baselines.bert4rec import Bert4Rec
from tiger_jax.models.baselines.gru4rec import Gru4Rec
from tiger_jax.models.baselines.sasrec import SasRec
from tiger_jax.models.dsi import Dsi
from tiger_jax.recommenders.dsi_task import DsiTask
from tiger_jax.recommenders.item_task import ItemTask
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.retrieval import items
from tiger_jax.runtime import sharding
from tiger_jax.semantic_ids.item_batches import ItemBatches
from tiger_jax.semantic_ids.quantizers.autoencoder_task import AutoencoderTask
from tiger_jax.semantic_ids.quantizers.rq_vae import RqVae
from tiger_jax.semantic_ids.quantizers.vq_vae import VqVae
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.step import init_state, make_steps

PLATFORMS = ('cpu', 'cuda', 'tpu')


def lowered(task, stack, seeds, recipe='adamw', mesh=None):
  """Exports the program that runs the steps of a stack."""
  optimizer = make_optimizer(OptimizerConfig(recipe), 5)
  state = jax.eval_shape(lambda: init_state(task, optimizer, seeds))
  shardings = None
  if mesh:
    shardings = sharding.state_shardings(mesh, state, int(len(seeds) > 1))
    state = jax.tree.map(
      lambda x, y: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=y),
      state,
      shardings,
    )
    stack = sharding.shard_batch(mesh, stack, axis=1)
  steps = make_steps(task, optimizer, seeds, shardings)
  exported = jax.export.export(steps, platforms=PLATFORMS)(
    state, task.tables, stack
  )
  assert exported.platforms == PLATFORMS
  shapes = jax.tree.map(lambda x: x.shape, jax.tree.leaves(state))
  assert [x.shape for x in exported.out_avals[: len(shapes)]] == shapes
  return exported


# Every pair of values occurs.
@pytest.mark.parametrize(
  ('replicas', 'causal', 'resident'),
  [(1, False, False), (1, True, True), (3, False, True), (3, True, False)],
)
def test_tiger_lowers(replicas, causal, resident):
  task = make_task(make_events() if resident else None, causal_encoder=causal)
  stack = make_excerpts(0, 2) if resident else make_stack(0, 2)
  lowered(task, stack, list(range(replicas)))


@pytest.mark.parametrize('causal', [False, True])
def test_a_trie_softmax_lowers(causal):
  task = make_task(
    causal_encoder=causal, softmax='trie', recency_bias=True,
    prefix_embeddings=9, history_bias=True,
  )  # fmt: skip
  codes = np.asarray(task.tables.codes)
  catalog = Catalog.from_codes(codes, task.model.level_sizes)
  task.tables = task.tables._replace(trie=catalog)
  # A table of 9 rows cannot be sharded evenly.
  mesh = sharding.make_mesh(fsdp=2, tensor=2)
  lowered(task, make_stack(0, 2), [0], mesh=mesh)


@pytest.mark.parametrize('recipe', ['adafactor', 'adagrad'])
def test_every_recipe_lowers(recipe):
  lowered(make_task(), make_stack(0, 2), [0, 1], recipe)


def test_tiger_lowers_in_bfloat16():
  lowered(make_task(dtype='bfloat16'), make_stack(0, 2), [0])


@pytest.mark.parametrize('replicas', [1, 2])
def test_training_lowers_for_several_devices(replicas):
  exported = lowered(
    make_task(),
    make_stack(0, 2),
    list(range(replicas)),
    mesh=sharding.make_mesh(fsdp=2, tensor=2),
  )
  assert exported.nr_devices == 8


@pytest.mark.parametrize(('kind', 'resident'), [(RqVae, False), (VqVae, True)])
def test_quantizers_lower(kind, resident):
  config = SemanticIdsConfig(
    codebook_sizes=(8, 8),
    latent_dim=4,
    hidden_dims=(16,),
    batch_size=32,
    restart_epochs=2,
  )
  rng = np.random.default_rng(0)
  x = rng.normal(size=(96, 10)).astype(np.float32)
  source = ItemBatches(x, 32, seed=0, resident_bytes=2**28 if resident else 0)
  assert source.resident == resident
  task = AutoencoderTask(kind, config, source)
  optimizer = make_optimizer(config.optimizer, 5)
  # The initial parameters are fitted on the host and cannot be traced.
  state = init_state(task, optimizer, [0])
  exported = jax.export.export(
    make_steps(task, optimizer, [0]), platforms=PLATFORMS
  )(state, task.tables, source.stack(0, 3))
  assert exported.platforms == PLATFORMS


# The losses do not depend on the model.
@pytest.mark.parametrize(
  ('kind', 'loss'),
  [
    (SasRec, 'cross_entropy'),
    (SasRec, 'sampled_softmax'),
    (SasRec, 'bce'),
    (Bert4Rec, 'cross_entropy'),
    (Gru4Rec, 'cross_entropy'),
  ],
)
def test_item_models_lower(kind, loss):
  model = kind(small(loss=loss), 30, 9)
  lowered(ItemTask(model, None), make_stack(0, 2), [0, 1])


def test_dsi_lowers():
  codes, vectors = np.zeros((30, 3), np.int32), np.zeros((30, 4), np.float32)
  task = DsiTask(TigerTask(Dsi(small(), (5, 5, 2)), codes), vectors, 8)
  lowered(task, make_stack(0, 2), [0])


@pytest.mark.parametrize('approximate', [False, True])
def test_matrix_products_of_item_retrieval_are_float32(approximate):
  """The dtype of the model and the default precision of JAX do not matter."""
  model = SasRec(small(dtype='bfloat16'), 30, 9)
  params = ItemTask(model, None).init(jax.random.key(0))
  batch = jax.tree.map(lambda x: x[0], make_stack(0, 1))
  lower = jax.export.export(items._recommend, platforms=PLATFORMS)
  with jax.default_matmul_precision('bfloat16'):
    exported = lower(
      items.ItemRetriever(model, None).model,
      10,
      approximate,
      params,
      None,
      batch,
      ItemLists.of([[1]] * len(batch.user)),
    )
  assert exported.platforms == PLATFORMS
  assert_full_products(exported.mlir_module())


def small(**changes):
  return ModelConfig(
    max_history=4, d_model=8, num_heads=1, head_dim=8, mlp_dim=8,
    num_encoder_layers=1, num_decoder_layers=1, **changes,
  )  # fmt: skip
