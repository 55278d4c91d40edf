"""TIGER and transition counts in one search, on three datasets.

  python -m tiger_jax.main --config=configs/paper/mixture.py

The experiment is not in the paper. `configs/paper/mixture.py:cpu` has a small
model on Beauty.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  return specs.experiment(
    'mixture',
    variant,
    {'TIGER': {}},
    datasets=('beauty', 'sports', 'toys'),
    columns=specs.MIXTURE,
  )
