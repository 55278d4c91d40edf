"""Amazon Sports and Outdoors: 35,598 users, 18,357 items.

  python -m tiger_jax.main --config=configs/sports.py

The settings and the variants (`:cpu`, `:cpu_long`, `:paper`) are those of
configs/beauty.py. The paper reports recall@10 0.0400 and ndcg@10 0.0225
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
  config.dataset.name = 'amazon2014/Sports_and_Outdoors'
  if variant in ('cpu', 'cpu_long'):
    # There are 1.6 times as many users as in Amazon Beauty.
    config.train.steps = 12_000
  return config
