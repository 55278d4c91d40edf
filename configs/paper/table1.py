"""Table 1 of the paper: TIGER and the baselines, on three datasets.

  python -m tiger_jax.main --config=configs/paper/table1.py

The run "TIGER, two cores" trains for an hour and a half on two CPU cores. Its
model has the paper's bidirectional encoder, and none of the settings of
`configs/paper/ablation.py`. The run "TIGER, our training" has three seeds of
`configs/beauty.py:cpu`. The run "TIGER, our training, ensemble" is
`configs/beauty.py:cpu_long`. The run "TIGER, our training, ensemble,
transitions" also sets `evaluation.transition_weight` to the best of a few
values on the validation data of the shop (benchmarks/RESULTS.md, our training
with transitions). These three runs share one training. The run "TIGER, our
training, ties shuffled" has one seed.

`configs/paper/table1.py:cpu` has small models on Beauty, and takes 15 minutes
on two CPU cores.
"""

from typing import Any

import ml_collections

from configs import beauty, sports, toys
from configs.paper import specs


def _steps(shop: Any, variant: str) -> dict[str, Any]:
  return {'train': {'steps': shop.get_config(variant).train.steps}}


def _two_cores() -> dict[str, Any]:
  """Returns the fields that the run "TIGER, two cores" changes.

  The model is 3.6 times as large as that of `configs/beauty.py:cpu`, apart from
  the prefix embeddings.
  """
  config = beauty.get_config('cpu')
  config.model.update(specs.PAPERS_MODEL)
  # The encoder is bidirectional, because without recency bias, the decoder of a
  # model with a causal encoder is not told which item is the last.
  config.model.causal_encoder = False
  config.model.d_model = 128
  config.model.head_dim = 32
  config.model.mlp_dim = 512
  config.train.batch_size = 256
  config.train.steps = 20_000
  config.train.evaluate_users = 4096
  config.train.optimizer.learning_rate = 2e-3
  config.train.optimizer.warmup_steps = 1000
  config.evaluation.num_beams = 50
  return _changes(config)


def _our_training() -> dict[str, dict[str, Any]]:
  """Returns three runs that share the training of three seeds."""
  ensemble = _changes(beauty.get_config('cpu_long'))
  evaluation = ensemble['evaluation']
  return {
    'TIGER, our training': ensemble
    | {'evaluation': evaluation | {'ensemble': False}},
    'TIGER, our training, ensemble': ensemble,
    'TIGER, our training, ensemble, transitions': ensemble
    | {'evaluation': evaluation | {'transition_weight': 0.2}},
  }


def _changes(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the fields that a run changes, apart from the embedding."""
  changes = {x: config[x].to_dict() for x in ('model', 'train', 'evaluation')}
  return changes | {'semantic_ids': {'quantizer': 'rq_kmeans'}}


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
  changes = {}
  if not small:
    runs['TIGER, two cores'] = _two_cores()
    ours = _our_training()
    ours['TIGER, our training, ties shuffled'] = _changes(
      beauty.get_config('cpu')
    ) | {'dataset': {'shuffle_ties': True}}
    runs |= ours
    runs['TIGER, tied heads'] = {'model': {'tied_heads': True}}
    runs['TIGER, width 384'] = {'model': {'d_model': 384}}
    runs['TIGER, paper'] = specs.papers()
    changes = {
      'sports': {x: _steps(sports, 'cpu') for x in ours},
      'toys': {
        'TIGER, paper': _steps(toys, 'paper'),
        'TIGER, our training, ensemble, transitions': {
          'evaluation': {'transition_weight': 0.3}
        },
      },
    }
  return specs.experiment(
    'table1',
    variant,
    runs,
    variants=('cpu',),
    datasets=('beauty', 'sports', 'toys'),
    dataset_changes=changes,
  )
