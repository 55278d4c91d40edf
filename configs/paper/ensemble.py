"""SASRec and TIGER together, on three shops (not in the paper).

  python -m tiger_jax.main --config=configs/paper/ensemble.py

`configs/paper/ensemble.py:cpu` is Beauty alone, at a reduced size, 4 minutes
on two CPU cores, and `:cpu_long` with what those train in two hours: SASRec of
full size and TIGER of `configs/beauty.py:cpu_long`.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec, at full size or for a variant."""
  return specs.experiment(
    'ensemble',
    variant,
    specs.sasrec_and_tiger(variant),
    datasets=('beauty', 'sports', 'toys'),
    columns=specs.ENSEMBLE,
    more_variants=('cpu_long',),
  )
