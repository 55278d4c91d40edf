"""All stages on a small synthetic shop, without downloads.

  python -m tiger_jax.main --config=configs/quickstart.py

The command takes less than two minutes on two CPU cores. The settings are those
of configs/beauty.py:cpu, for fewer items and with a smaller model. RQ-KMeans
makes the Semantic IDs, because there are too few items to train an RQ-VAE well.
The recommender reaches 92% of the best possible recall@10.
"""

import ml_collections

from configs import beauty


def get_config() -> ml_collections.ConfigDict:
  """Returns the config."""
  config = beauty.get_config('cpu')
  config.dataset.name = 'synthetic'
  config.embedding.dim = 64

  ids = config.semantic_ids
  ids.codebook_sizes = (32, 32, 32)
  # For an RQ-VAE instead of RQ-KMeans.
  ids.hidden_dims = (256, 128)
  ids.epochs = 1000
  ids.restart_epochs = 700
  ids.optimizer.learning_rate = 1e-3

  model = config.model
  model.num_encoder_layers = 1
  model.num_decoder_layers = 1
  model.prefix_embeddings = 2**12

  train = config.train
  train.steps = 800
  train.steps_per_call = 10
  # One width, because training takes less time than compiling for more widths.
  train.length_buckets = (10,)
  train.log_every = 50
  train.evaluate_every = 200
  train.evaluate_users = 1000
  train.optimizer.warmup_steps = 100
  return config
