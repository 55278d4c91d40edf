"""Table 2: what the IDs are made by, on three shops.

  python -m tiger_jax.main --config=configs/paper/table2.py

`configs/paper/table2.py:cpu` is Beauty alone, at a reduced size, where RQ-VAE
and VQ-VAE have 20 epochs instead of 120, 12 minutes on two CPU cores.
RQ-KMeans, VQ-VAE, hierarchical k-means and OPQ are not in the paper.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec, at full size or for `cpu`."""
  names = {
    'random': 'random',
    'LSH': 'lsh',
    'RQ-VAE': 'rq_vae',
    'RQ-KMeans': 'rq_kmeans',
    'VQ-VAE': 'vq_vae',
    'hierarchical k-means': 'hierarchical_kmeans',
    'OPQ': 'opq',
  }
  runs = {
    name: {'semantic_ids': {'quantizer': quantizer}}
    for name, quantizer in names.items()
  }
  return specs.experiment(
    'table2', variant, runs, datasets=('beauty', 'sports', 'toys')
  )
