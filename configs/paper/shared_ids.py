"""The paper's study of scale: IDs of one space for three shops, on Beauty.

  python -m tiger_jax.main --config=configs/paper/shared_ids.py

`configs/paper/shared_ids.py:cpu` is a reduced size, 6 minutes on two CPU cores;
its vectors must be named, for TF-IDF makes a space for each shop.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec, at full size or for `cpu`."""
  runs = {
    'IDs of Beauty': {},
    'IDs of three shops': {'semantic_ids': {'shared_with': ('sports', 'toys')}},
  }
  spec = specs.experiment(
    'shared_ids', variant, runs, others=('sports', 'toys')
  )
  if variant == 'cpu':
    spec.base.embedding.encoder = 'precomputed'
  return spec
