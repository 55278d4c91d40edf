"""An ensemble of SASRec and TIGER, on three datasets (not in the paper).

  python -m tiger_jax.main --config=configs/paper/ensemble.py

`configs/paper/ensemble.py:cpu` has small models on Beauty, and takes 4 minutes
on two CPU cores. `:cpu_long` has the full SASRec and the run
"TIGER, two cores" of `table1.py` on Beauty, and takes two hours.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of a variant of it."""
  return specs.experiment(
    'ensemble',
    variant,
    specs.sasrec_and_tiger(variant),
    datasets=('beauty', 'sports', 'toys'),
    columns=specs.ENSEMBLE,
    more_variants=('cpu_long',),
  )
