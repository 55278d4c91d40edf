"""Figure 6: the share of generated IDs that no item has.

  python -m tiger_jax.main --config=configs/paper/invalid_ids.py

`configs/paper/invalid_ids.py:cpu` is Beauty alone, at a reduced size, 3 minutes
on two CPU cores. The paper plots 0.1% to 1.6% of the first ten, 0.3% to 6% of
the first twenty. The IDs come from an unconstrained search with
`evaluation.num_beams` beams; a wider search may return other IDs.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec, at full size or for `cpu`."""
  return specs.experiment(
    'invalid_ids',
    variant,
    {'TIGER': {}},
    datasets=('beauty', 'sports', 'toys'),
    columns=('invalid@10', 'invalid@20', 'recall@10', 'ndcg@10'),
  )
