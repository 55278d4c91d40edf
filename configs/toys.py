"""Amazon Toys and Games: 19,412 users, 11,924 items.

  python -m tiger_jax.main --config=configs/toys.py

The settings and the variants (`:cpu`, `:cpu_long`, `:paper`) are those of
configs/beauty.py. The paper reports recall@10 0.0712 and ndcg@10 0.0432
(Table 1).
"""

import ml_collections

from configs import beauty


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the config.

  Args:
    variant: A variant of configs/beauty.py.
  """
  config = beauty.get_config(variant)
  config.dataset.name = 'amazon2014/Toys_and_Games'
  if variant == 'paper':
    config.train.steps = 100_000
  return config
