"""Collects the measurements of all stages."""

from collections.abc import Mapping
from typing import Any

from tiger_jax.config import Config
from tiger_jax.data import counts
from tiger_jax.data.dataset import Dataset
from tiger_jax.runtime.environment import environment
from tiger_jax.stages import embedding, evaluation, semantic_ids
from tiger_jax.storage.artifacts import Artifact


def collect(
  config: Config,
  dataset: Dataset,
  stages: Mapping[str, Artifact],
  command: str = '',
) -> dict[str, Any]:
  """Returns the content of `results.json`.

  Args:
    config: The settings of the run.
    dataset: The items and the histories.
    stages: Maps the stages of the run, in order, to their artifacts.
    command: The command that repeats the run; '' if it is not known.
  """
  results: dict[str, Any] = {
    'model': config.model.name,
    'dataset': {
      'name': dataset.name,
      'users': dataset.num_users,
      'items': dataset.num_items,
      'interactions': dataset.num_interactions,
    },
  }
  # Datasets made by older versions have no counts.
  if source_counts := counts.read(stages['data'].folder):
    results['dataset']['counts'] = source_counts
    if dataset.training_counts is not None:
      results['dataset']['users'] = source_counts['users']['used']
      results['dataset']['interactions'] = source_counts['events']['used']
  if 'embedding' in stages:
    vectors = embedding.load(stages['embedding'].folder)
    results['embedding'] = {
      'encoder': embedding.encoder_name(config.embedding),
      'dim': vectors.shape[1],
    }
    if vector_counts := stages['embedding'].metadata.get('vectors'):
      results['embedding']['counts'] = vector_counts
  if 'semantic_ids' in stages:
    folder = stages['semantic_ids'].folder
    results['semantic_ids'] = semantic_ids.load_quality(folder)
  if command:
    results['command'] = command
  return results | {
    **evaluation.load(stages['evaluation'].folder),
    'seconds': {name: round(x.seconds, 1) for name, x in stages.items()},
    # The environment of training; the evaluation may run on another machine.
    'environment': stages['train'].metadata.get('environment', environment())
    | {'seed': config.seed},
  }
