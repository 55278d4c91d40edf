"""Table 2 of the paper: TIGER with different quantizers, on three datasets.

  python -m tiger_jax.main --config=configs/paper/table2.py

RQ-KMeans, VQ-VAE, hierarchical k-means and OPQ are not in the paper.

`configs/paper/table2.py:cpu` has small models on Beauty, and takes 12 minutes
on two CPU cores. RQ-VAE and VQ-VAE train for 20 epochs instead of 120.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
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
