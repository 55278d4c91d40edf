"""The synthetic shop: the whole flow on a laptop, no downloads.

  python -m tiger_jax.main --config=configs/quickstart.py

Two CPU cores, under five minutes.
"""

import ml_collections

from tiger_jax import config as tiger_config


def get_config() -> ml_collections.ConfigDict:
  """Returns the config."""
  config = tiger_config.defaults()

  config.dataset.name = 'synthetic'
  config.embedding.encoder = 'tfidf-svd'
  config.embedding.dim = 64

  ids = config.semantic_ids
  ids.codebook_size = 32
  ids.latent_dim = 16
  ids.hidden_dims = (128, 64)
  ids.batch_size = 256
  ids.epochs = 150
  ids.restart_epochs = 100

  model = config.model
  model.max_history = 20
  model.d_model = 64
  model.num_heads = 4
  model.head_dim = 16
  model.mlp_dim = 256
  model.num_encoder_layers = 2
  model.num_decoder_layers = 2

  train = config.train
  train.batch_size = 128
  train.steps = 1200
  train.length_buckets = (5, 10, 20)
  train.log_every = 50
  train.evaluate_every = 300
  train.evaluate_users = 1000
  train.optimizer.learning_rate = 2e-3
  train.optimizer.warmup_steps = 100
  train.optimizer.weight_decay = 0.01

  config.evaluation.num_beams = 20
  return config
