"""The sizes, the catalog and the requests of tests with the real network."""

import numpy as np

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch

LEVEL_SIZES = (5, 3, 4)
CONFIG = ModelConfig(
  max_history=4, d_model=8, num_heads=2, head_dim=3, mlp_dim=12,
  num_encoder_layers=1, num_decoder_layers=1, softmax='trie',
  recency_bias=True, prefix_embeddings=30, prefix_heads=True,
  history_bias=True,
)  # fmt: skip
NUM_ITEMS = 13
# The IDs of the items of the catalog, and of two new items.
IDS = np.random.default_rng(0).permutation(5 * 3 * 4)[: NUM_ITEMS + 2]
CODES = np.stack(np.unravel_index(IDS, LEVEL_SIZES), 1).astype(np.int32)
BATCH = Batch(
  np.array([[3, 0, 12, 3], [7, -1, -1, -1]], np.int32),
  np.array([0, -1], np.int32),
  np.array([-1, -1], np.int32),
)
