"""Sizes of a small model that trains on all prefixes in one pass."""

from tiger_jax.config import ModelConfig

LEVEL_SIZES = (5, 4, 3)
NUM_ITEMS = 40
CONFIG = ModelConfig(
  max_history=7,
  d_model=16,
  num_heads=2,
  head_dim=8,
  mlp_dim=32,
  num_encoder_layers=2,
  num_decoder_layers=1,
  causal_encoder=True,
)
