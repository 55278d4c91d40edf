"""The settings of the model that depart from the paper, one by one, on Beauty.

  python -m tiger_jax.main --config=configs/paper/ablation.py

The settings are a softmax over the trie of the IDs, a recency bias in the
cross-attention, prefix embeddings, prefix heads, and a history bias (see
`tiger_jax/config/model.py`). The row "all, optimal" sets
`semantic_ids.collisions` to `optimal`, so its IDs have no collision code. The
row "all, packed" uses `train.packed`. Only the variants have this row.

`configs/paper/ablation.py:cpu` trains for a tenth of the steps of `:cpu_long`.
"""

from typing import Any

import ml_collections

from configs import beauty
from configs.paper import specs

_PREFIXES = ('prefix_embeddings', 'prefix_heads')
_ROWS = {
  'none': (),
  'trie softmax': ('softmax',),
  'recency bias': ('recency_bias',),
  'prefix embeddings': _PREFIXES[:1],
  'prefix embeddings, prefix heads': _PREFIXES,
  'trie softmax, history bias': ('softmax', 'history_bias'),
  'all but prefix heads': (
    'softmax',
    'recency_bias',
    'prefix_embeddings',
    'history_bias',
  ),
  'all but history bias': ('softmax', 'recency_bias', *_PREFIXES),
  'all': ('softmax', 'recency_bias', *_PREFIXES, 'history_bias'),
}


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of one of its variants."""
  ours = beauty.get_config('cpu').model
  runs: dict[str, Any] = {
    row: {'model': specs.PAPERS_MODEL | {name: ours[name] for name in names}}
    for row, names in _ROWS.items()
  }
  # Without row dropout, the table of prefix embeddings overfits.
  rows = runs['all']
  runs['all, no row dropout'] = rows | {
    'model': rows['model'] | {'prefix_dropout': 0.0}
  }
  # The full-size model has no causal encoder, so its batches cannot be packed.
  # A packed row holds about two histories, so half as many rows are enough.
  if variant:
    runs['all, packed'] = rows | {'train': {'packed': True, 'batch_size': 32}}
  runs['all, optimal'] = rows | {'semantic_ids': {'collisions': 'optimal'}}
  return specs.experiment('ablation', variant, runs)
