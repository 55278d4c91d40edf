"""Whose next item SASRec and TIGER find, on three shops (not in the paper).

  python -m tiger_jax.main --config=configs/paper/breakdown.py

`configs/paper/breakdown.py:cpu` is Beauty alone, at a reduced size, 4 minutes
on two CPU cores, and `:cpu_long` with what those train in two hours: SASRec of
full size and TIGER of `configs/beauty.py:cpu_long`. Users are told apart by
their history, by how often their next item was bought, and by whether anybody
bought it right after the same item before.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec, at full size or for a variant."""
  return specs.experiment(
    'breakdown',
    variant,
    specs.sasrec_and_tiger(variant),
    datasets=('beauty', 'sports', 'toys'),
    columns=specs.BREAKDOWN,
    more_variants=('cpu_long',),
  )
