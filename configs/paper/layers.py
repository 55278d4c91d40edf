"""The paper's ablation of the number of layers, on Beauty.

  python -m tiger_jax.main --config=configs/paper/layers.py

The encoder and the decoder have the same number of layers: 3, 4 or 5.

The variants have small models with 1, 2 and 3 layers.
`configs/paper/layers.py:cpu` takes 6 minutes on two CPU cores.
"""

import ml_collections

from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  counts = (1, 2, 3) if variant else (3, 4, 5)
  runs = {
    f'{n} layers' if n > 1 else '1 layer': {
      'model': {'num_encoder_layers': n, 'num_decoder_layers': n}
    }
    for n in counts
  }
  return specs.experiment('layers', variant, runs)
