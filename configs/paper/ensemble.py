"""An ensemble of SASRec and TIGER, on three datasets (not in the paper).

  python -m tiger_jax.main --config=configs/paper/ensemble.py

SASRec is combined with TIGER, with TIGER whose search has transition counts,
and with these counts alone. The weights of the transitions are those of
`table1.py`.

`configs/paper/ensemble.py:cpu` has small models on Beauty, and takes 6 minutes
on two CPU cores. The variant `:cpu_long` has SASRec at full size. Both variants
measure Beauty, or the shops in `--config.measured`.
"""

from typing import Any

import ml_collections

from configs import sports
from configs.paper import specs


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  name = 'TIGER, transitions'
  changes = {'toys': {name: _transitions(0.3)}}
  if variant == 'cpu_long':
    steps = sports.get_config('cpu').train.steps
    changes['sports'] = dict.fromkeys(
      ('TIGER', name), {'train': {'steps': steps}}
    )
  return specs.experiment(
    'ensemble',
    variant,
    specs.sasrec_and_tiger(variant)
    | {
      name: _transitions(0.2),
      'transitions': specs.baseline('transitions', variant),
    },
    datasets=('beauty', 'sports', 'toys'),
    dataset_changes=changes,
    columns=specs.ENSEMBLE,
  )


def _transitions(weight: float) -> dict[str, Any]:
  """Returns the fields of a run whose search has transition counts."""
  return {'evaluation': {'transition_weight': weight}}
