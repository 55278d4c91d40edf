"""TIGER with different numbers and sizes of codebooks, on Beauty.

This experiment is not in the paper.

  python -m tiger_jax.main --config=configs/paper/codebooks.py

`configs/paper/codebooks.py:cpu` has small models, and takes 13 minutes on two
CPU cores.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  sizes = [(256,) * n for n in (2, 3, 4, 5)]
  sizes += [(size,) * 3 for size in (64, 128, 512)]
  runs = {
    f'{len(x)} x {x[0]}': {'semantic_ids': {'codebook_sizes': x}} for x in sizes
  }
  return specs.experiment('codebooks', variant, runs)
