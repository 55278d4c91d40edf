"""Figure 6 of the paper: the share of generated IDs that no item has.

  python -m tiger_jax.main --config=configs/paper/invalid_ids.py

The IDs come from an unconstrained search with `evaluation.num_beams` beams. A
search with more beams may return different IDs. The softmax is over all codes,
because a softmax over the trie generates no invalid IDs. In the paper, 0.1% to
1.6% of the first ten IDs and 0.3% to 6% of the first twenty are invalid.

`configs/paper/invalid_ids.py:cpu` has a small model on Beauty, and takes 3
minutes on two CPU cores.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  return specs.experiment(
    'invalid_ids',
    variant,
    {'TIGER': {'model': {'softmax': 'all_codes', 'history_bias': False}}},
    datasets=('beauty', 'sports', 'toys'),
    columns=('invalid@10', 'invalid@20', 'recall@10', 'ndcg@10'),
  )
