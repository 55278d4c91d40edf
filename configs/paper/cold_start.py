"""Figure 5 of the paper: items that are not in the training data, on Beauty.

  python -m tiger_jax.main --config=configs/paper/cold_start.py

Of the items that are the test target of a user, one in twenty is removed from
the training data. Recall is measured for the users whose next item is one of
these items.

`configs/paper/cold_start.py:cpu` has a small model, and takes 6 minutes of CPU
time.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  unseen = {'dataset': {'unseen_share': 0.05}}
  return specs.experiment(
    'cold_start',
    variant,
    {'TIGER': unseen},
    columns=specs.COLD_START,
  )
