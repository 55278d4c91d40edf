"""TIGER with three seeds: mean and standard error, on three datasets.

  python -m tiger_jax.main --config=configs/paper/seeds.py

In the paper, the standard errors of recall@10 and ndcg@10 are .00092 and .00061
on Beauty, .0010 and .00048 on Sports, and .0013 and .00047 on Toys.

`configs/paper/seeds.py:cpu` has small models on Beauty, and takes 4 minutes on
two CPU cores.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  steps = {'steps': 500, 'evaluate_every': 250} if variant == 'cpu' else {}
  return specs.experiment(
    'seeds',
    variant,
    {'TIGER, 3 seeds': {'train': {'replicas': 3} | steps}},
    datasets=('beauty', 'sports', 'toys'),
  )
