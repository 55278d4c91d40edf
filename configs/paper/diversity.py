"""The paper's Entropy@k: how varied items are, by temperature, on Beauty.

  python -m tiger_jax.main --config=configs/paper/diversity.py

`configs/paper/diversity.py:cpu` is a reduced size, 16 minutes of CPU time.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec, at full size or for `cpu`."""
  return specs.experiment(
    'diversity', variant, {'TIGER': {}}, columns=specs.DIVERSITY
  )
