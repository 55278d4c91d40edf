"""The paper's Entropy@k: diversity at different temperatures, on Beauty.

  python -m tiger_jax.main --config=configs/paper/diversity.py

The variants evaluate 4,096 users. `configs/paper/diversity.py:cpu` has a small
model, and takes 16 minutes of CPU time.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  spec = specs.experiment(
    'diversity', variant, {'TIGER': {}}, columns=specs.DIVERSITY
  )
  if variant:
    # The search and the draws take a quarter of a second per user.
    spec.base.evaluation.num_users = 4096
  return spec
