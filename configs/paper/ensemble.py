"""An ensemble of SASRec and TIGER, on three datasets (not in the paper).

  python -m tiger_jax.main --config=configs/paper/ensemble.py

`configs/paper/ensemble.py:cpu` has small models on Beauty, and takes 4 minutes
on two CPU cores. The variant `:cpu_long` has SASRec at full size.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  return specs.experiment(
    'ensemble',
    variant,
    specs.sasrec_and_tiger(variant),
    datasets=('beauty', 'sports', 'toys'),
    columns=specs.ENSEMBLE,
  )
