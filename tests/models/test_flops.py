"""Compares the count of useful operations with the count of XLA."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.flops import training_flops
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.tiger_task import TigerTask

LEVEL_SIZES = (64, 32, 16)
CONFIG = ModelConfig(
  max_history=6,
  d_model=64,
  num_heads=3,
  head_dim=32,
  mlp_dim=128,
  num_encoder_layers=1,
  num_decoder_layers=2,
)


@pytest.mark.parametrize('num_user_tokens', [0, 5])
@pytest.mark.parametrize('causal_encoder', [False, True])
@pytest.mark.parametrize('prefix_heads', [False, True])
def test_flops_of_full_histories_match_the_count_of_xla(
  prefix_heads, causal_encoder, num_user_tokens
):
  config = dataclasses.replace(
    CONFIG,
    causal_encoder=causal_encoder,
    num_user_tokens=num_user_tokens,
    prefix_embeddings=100,
    prefix_heads=prefix_heads,
  )
  model = Tiger(config, LEVEL_SIZES)
  codes = jnp.zeros((20, 3), jnp.int32)
  params = jax.eval_shape(TigerTask(model, codes).init, jax.random.key(0))
  row = np.zeros(4, np.int32)
  batch = Batch(np.zeros((4, 6), np.int32), row, row)

  def forward(params, batch):
    bound = model.bind({'params': params})
    score = bound.every_target if causal_encoder else bound
    return score(codes, batch)

  cost = jax.jit(forward).lower(params, batch).compile().cost_analysis()
  useful = training_flops(config, LEVEL_SIZES, np.full(4, 6)) / 3
  # XLA also counts softmax, normalization and masked pairs.
  assert 0.93 * cost['flops'] < useful < cost['flops']


def test_short_histories_need_fewer_flops():
  full = training_flops(CONFIG, LEVEL_SIZES, np.array([6, 6]))
  half = training_flops(CONFIG, LEVEL_SIZES, np.array([3, 3]))
  assert half < full
  single = training_flops(CONFIG, LEVEL_SIZES, np.array([3]))
  assert half == 2 * single
