"""The baselines, on Amazon Beauty.

  python -m tiger_jax.main --config=configs/baselines.py

This command trains SASRec in eight minutes on two CPU cores. A colon and a name
choose another baseline, as in configs/baselines.py:bert4rec. The names are
`popularity`, `transitions`, `item_knn`, `matrix_factorization`, `two_tower`,
`gru4rec`, `bert4rec`, `vq_rec` and `dsi`.

For baselines that score items, --config.model.loss chooses `cross_entropy`,
`sampled_softmax` or `bce`. For another dataset, add
--config.dataset.name=amazon2014/Toys_and_Games.
"""

import ml_collections

from configs import beauty
from tiger_jax.config import config_dict
from tiger_jax.config.checks import nearest_and_all
from tiger_jax.errors import UsageError
from tiger_jax.recommenders.registry import BASELINES, MODELS


def get_config(name: str = 'sasrec') -> ml_collections.ConfigDict:
  """Returns the config of a baseline."""
  if name not in BASELINES:
    raise UsageError(
      f'no baseline {name!r}: {nearest_and_all(name, BASELINES)}'
    )
  is_generative = MODELS[name].is_generative
  config = beauty.get_config() if is_generative else config_dict.defaults()
  config.dataset.name = 'amazon2014/Beauty'
  model, train = config.model, config.train
  model.name = name
  settings = dict(MODELS[name].settings)
  if is_generative:
    config.update_from_flattened_dict(settings)
    return config

  model.max_history = 50
  model.d_model = 64
  model.num_heads = 1
  model.head_dim = 64
  model.mlp_dim = 256
  model.num_encoder_layers = 2
  model.dropout = 0.2
  train.batch_size = 256
  train.steps = 1600
  train.steps_per_call = 8
  # All batches have the same width, because SASRec learns less from batches of
  # histories of similar length (benchmarks/RESULTS.md).
  train.length_buckets = (model.max_history,)
  train.evaluate_every = 200
  train.optimizer.learning_rate = 1e-3
  train.optimizer.warmup_steps = 100
  train.optimizer.weight_decay = 0.01
  config.update_from_flattened_dict(settings)
  return config
