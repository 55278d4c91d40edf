"""Table 1 of the paper: TIGER and the baselines, on three datasets.

  python -m tiger_jax.main --config=configs/paper/table1.py

The run "TIGER, two cores" has the sizes and the training of
`configs/beauty.py:cpu_long`, but the softmax of the paper, and no recency bias
or prefix embeddings. The run "TIGER, our training" is `configs/beauty.py:cpu`,
which trains for a quarter of an hour on two CPU cores that do nothing else. The
run "TIGER, our training, larger" is `configs/beauty.py:cpu_long`, which trains
for an hour and a half.

`configs/paper/table1.py:cpu` has small models on Beauty, and takes 15 minutes
on two CPU cores.
"""

from typing import Any

import ml_collections

from configs import sports, toys
from configs.paper import specs


def _steps(shop: Any, variant: str) -> dict[str, Any]:
  return {'train': {'steps': shop.get_config(variant).train.steps}}


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the spec of the experiment, or of its variant `cpu`."""
  small = variant == 'cpu'

  def baseline(name, **model):
    return specs.baseline(name, variant, **model)

  runs = {
    'popularity': baseline('popularity'),
    'transitions': baseline('transitions'),
    'transitions, last item': baseline('transitions', max_history=1)
    | {'train': {'length_buckets': (1,)}},
    'Semantic-KNN': baseline('item_knn'),
    'MF': baseline('matrix_factorization'),
    'two towers': baseline('two_tower', loss='sampled_softmax'),
    'two towers, approximate': baseline('two_tower', loss='sampled_softmax')
    | {'evaluation': {'search': 'approximate'}},
    'GRU4Rec': baseline('gru4rec'),
    'BERT4Rec': baseline('bert4rec'),
    'SASRec, BCE': baseline('sasrec', loss='bce'),
    'SASRec, sampled softmax': baseline('sasrec', loss='sampled_softmax'),
    'SASRec, cross-entropy': baseline('sasrec'),
    'VQ-Rec': baseline('vq_rec'),
    'DSI': baseline('dsi'),
    'TIGER': {},
    'SASRec, cross-entropy, ties shuffled': baseline('sasrec')
    | {'dataset': {'shuffle_ties': True}},
    'TIGER, ties shuffled': {'dataset': {'shuffle_ties': True}},
  }
  if not small:
    runs['TIGER, two cores'] = specs.two_cores(**specs.PAPERS_MODEL)
    runs['TIGER, our training'] = specs.two_cores('cpu')
    runs['TIGER, our training, larger'] = specs.two_cores()
    runs['TIGER, tied heads'] = {'model': {'tied_heads': True}}
    runs['TIGER, width 384'] = {'model': {'d_model': 384}}
    runs['TIGER, paper'] = specs.papers()
  return specs.experiment(
    'table1',
    variant,
    runs,
    datasets=('beauty', 'sports', 'toys'),
    dataset_changes={
      'sports': {'TIGER, our training': _steps(sports, 'cpu')},
      'toys': {'TIGER, paper': _steps(toys, 'paper')},
    },
  )
