"""The paper's scalability study: three datasets share one ID space.

  python -m tiger_jax.main --config=configs/paper/shared_ids.py

The recommender is measured on Beauty, with IDs that are fitted to Beauty alone,
and with IDs that are fitted to Beauty, Sports and Toys together.

`configs/paper/shared_ids.py:cpu` has small models, and takes 6 minutes on two
CPU cores. The variants need files of precomputed vectors, because the TF-IDF
vectors of different datasets are not comparable.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  runs = {
    'IDs of Beauty': {},
    'IDs of three shops': {'semantic_ids': {'shared_with': ('sports', 'toys')}},
  }
  spec = specs.experiment(
    'shared_ids', variant, runs, embedded_datasets=('sports', 'toys')
  )
  if variant:
    spec.base.embedding.encoder = 'precomputed'
  return spec
