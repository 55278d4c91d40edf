"""Three seeds at once, mean and standard error, on three shops.

  python -m tiger_jax.main --config=configs/paper/seeds.py

`configs/paper/seeds.py:cpu` is Beauty alone, at a reduced size, 4 minutes on
two CPU cores. The standard errors of the paper's recall@10 and ndcg@10: Beauty
.00092 and .00061, Sports .0010 and .00048, Toys .0013 and .00047.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec, at full size or for `cpu`."""
  steps = {'steps': 500, 'evaluate_every': 250} if variant == 'cpu' else {}
  return specs.experiment(
    'seeds',
    variant,
    {'TIGER, 3 seeds': {'train': {'replicas': 3} | steps}},
    datasets=('beauty', 'sports', 'toys'),
  )
