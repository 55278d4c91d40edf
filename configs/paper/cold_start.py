"""Figure 5: items that nobody has bought before, on Beauty.

  python -m tiger_jax.main --config=configs/paper/cold_start.py

`configs/paper/cold_start.py:cpu` is a reduced size, 6 minutes of CPU time.
One in twenty items of the test is taken out of training; recall is of the users
whose next item is one.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec, at full size or for `cpu`."""
  unseen = {'dataset': {'unseen_share': 0.05}}
  return specs.experiment(
    'cold_start',
    variant,
    {'TIGER': unseen},
    columns=specs.COLD_START,
  )
