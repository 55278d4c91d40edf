"""Metrics of SASRec and TIGER by groups of users (not in the paper).

  python -m tiger_jax.main --config=configs/paper/breakdown.py

Users are grouped by the length of their history, by the popularity of their
next item, and by whether any user in the training data bought the next item
directly after the last item of the history. At full size, the datasets are
Beauty, Sports and Toys.

`configs/paper/breakdown.py:cpu` has small models on Beauty, and takes 4 minutes
on two CPU cores. The variant `:cpu_long` has SASRec at full size.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  return specs.experiment(
    'breakdown',
    variant,
    specs.sasrec_and_tiger(variant),
    datasets=('beauty', 'sports', 'toys'),
    columns=specs.BREAKDOWN,
  )
