"""The paper's ablation of the user token, on Beauty.

  python -m tiger_jax.main --config=configs/paper/user_token.py

`configs/paper/user_token.py:cpu` has small models, and takes 5 minutes on two
CPU cores.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  runs = {
    'no user token': {'model': {'num_user_tokens': 0}},
    '2000 user tokens': {'model': {'num_user_tokens': 2000}},
  }
  return specs.experiment('user_token', variant, runs)
