"""Builds the specs of the experiments, and the settings of their runs.

`breakdown`, `cold_start` and `diversity` measure the model without the errors
of a beam search. They add beams to the search until it is proven that no other
item ranks above the recommendations, and report the share of items for which
the proof succeeds. All other experiments use the search of the evaluation, with
`evaluation.num_beams` beams, doubled until there is one for each listed item.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from configs import baselines, beauty
from tiger_jax.config.checks import nearest_and_all
from tiger_jax.errors import UsageError

COLD_START = (
  'recall@10', 'recall@20', 'recall@50', 'reachable', 'reachable_items',
  'proven',
)  # fmt: skip
BREAKDOWN = ('share', 'recall@10', 'ndcg@10', 'proven')
ENSEMBLE = (
  'weight', 'recall@5', 'ndcg@5', 'recall@10', 'ndcg@10',
  'masked_recall@5', 'masked_ndcg@5', 'masked_recall@10', 'masked_ndcg@10',
)  # fmt: skip
MIXTURE = ('weight', 'kappa', *ENSEMBLE[1:])
DIVERSITY = ('entropy@10', 'entropy@20', 'entropy@50', 'recall@10', 'proven')

# The paper's values of the settings that `configs/paper/ablation.py` measures.
PAPERS_MODEL = {
  'softmax': 'all_codes', 'recency_bias': False, 'prefix_embeddings': 0,
  'prefix_heads': False, 'history_bias': False,
}  # fmt: skip

_NAMES = {
  'beauty': 'amazon2014/Beauty',
  'sports': 'amazon2014/Sports_and_Outdoors',
  'toys': 'amazon2014/Toys_and_Games',
}


def experiment(
  name: str,
  variant: str,
  runs: Mapping[str, Any],
  *,
  datasets: tuple[str, ...] = ('beauty',),
  embedded_datasets: tuple[str, ...] = (),
  dataset_changes: Mapping[str, Mapping[str, Any]] | None = None,
  columns: tuple[str, ...] = (),
  variants: tuple[str, ...] = ('cpu', 'cpu_long'),
) -> ml_collections.ConfigDict:
  """Returns the spec of an experiment, see `tiger_jax/experiments/spec.py`.

  Args:
    name: The name of the experiment.
    variant: '' for the full size, or one of `variants`.
    runs: Maps the name of a run to the fields that it changes.
    datasets: The datasets to measure. Variants measure only the first, unless
      `measured` names others.
    embedded_datasets: More datasets, which are embedded but not measured.
    dataset_changes: Maps a dataset, and then a run, to the fields that the run
      changes on this dataset only.
    columns: The test metrics of the table; () for the four of the paper.
    variants: The variants of the experiment. `cpu` has small models that train
      for two minutes. `cpu_long` has the models of `configs/beauty.py:cpu`.
  """
  if variant and variant not in variants:
    hint = nearest_and_all(variant, variants)
    raise UsageError(f'no variant {variant!r}: {hint}, or omit the variant')
  base = beauty.get_config('cpu' if variant else '')
  if variant == 'cpu':
    reduce(base)
  shops = {
    shop: {
      'dataset': {'name': _NAMES[shop], 'source_dir': ''},
      'embedding': {'path': '', 'ids_path': ''},
      'runs': dict((dataset_changes or {}).get(shop, {})),
    }
    for shop in (*datasets, *embedded_datasets)
  }
  spec = ml_collections.ConfigDict(
    {
      'experiment': f'{name}_{variant}' if variant else name,
      'columns': columns,
      'base': base,
      'datasets': shops,
      'measured': datasets[:1] if variant else datasets,
      'runs': dict(runs),
      # Needed because a ConfigDict sorts its fields.
      'order': tuple(runs),
      'table': tuple(runs),
    }
  )
  return spec.lock()


def sasrec_and_tiger(variant: str) -> dict[str, Any]:
  """Returns the runs of the best baseline and of TIGER.

  Args:
    variant: `cpu` for a small baseline. Otherwise, the baseline has full size.

  Returns:
    A dict from the name of a run to the fields that it changes.
  """
  return {'SASRec': baseline('sasrec', variant), 'TIGER': {}}


def papers() -> dict[str, Any]:
  """Returns the fields that a run changes to optimize as in the paper."""
  config = beauty.get_config('paper')
  sections = ('semantic_ids', 'model', 'train')
  return {section: config[section].to_dict() for section in sections}


def reduce(config: ml_collections.ConfigDict) -> None:
  """Reduces `beauty.py:cpu` to a run of about two minutes on two CPU cores."""
  config.model.update(PAPERS_MODEL)
  config.semantic_ids.epochs = 20
  config.semantic_ids.restart_epochs = 15
  config.train.steps = 800
  config.train.optimizer.warmup_steps = 100
  config.train.evaluate_every = 400
  config.train.evaluate_users = 1024
  config.train.length_buckets = (4, 10)
  config.evaluation.num_users = 4096


def baseline(name: str, variant: str, **model: Any) -> dict[str, Any]:
  """Returns the fields that a run changes to train a baseline.

  Args:
    name: A baseline of configs/baselines.py.
    variant: `cpu` for a small model. Otherwise, the model has full size.
    **model: More fields of the section `model`.
  """
  config = baselines.get_config(name)
  sections = ['model', 'train']
  if name in ('dsi', 'vq_rec'):
    sections.append('semantic_ids')
  if variant == 'cpu' and name == 'dsi':
    small = beauty.get_config('cpu')
    reduce(small)
    config.train, config.model = small.train, small.model
    config.model.name = 'dsi'
  elif variant == 'cpu':
    config.model.max_history = min(config.model.max_history, 20)
    # SASRec keeps its default loss over all items, because table1 compares this
    # loss with two other losses of SASRec.
    if name != 'sasrec':
      config.model.loss = 'sampled_softmax'
    config.train.length_buckets = (config.model.max_history,)
    config.train.steps = 320
    config.train.evaluate_every = 160
    config.train.evaluate_users = 1024
    config.train.optimizer.learning_rate = 3e-3
    # A low dropout rate, because the model does not overfit in so few steps.
    config.model.dropout = 0.2
  config.model.update(model)
  return {section: config[section].to_dict() for section in sections}
