"""Collects the measurements of all stages."""

from collections.abc import Mapping
from typing import Any

from tiger_jax.config import Config
from tiger_jax.data import counts
from tiger_jax.data.dataset import Dataset
from tiger_jax.runtime.environment import environment
from tiger_jax.stages import embedding, evaluation, semantic_ids
from tiger_jax.storage.artefacts import Artefact


def collect(
  config: Config,
  dataset: Dataset,
  made: Mapping[str, Artefact],
  command: str = '',
) -> dict[str, Any]:
  """Returns the content of `results.json`.

  Args:
    config: The settings of the run.
    dataset: The items and the histories.
    made: The artefacts of the stages that the run has, in order, by name.
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
  # An older version kept no counts.
  if counted := counts.read(made['data'].folder):
    results['dataset']['counts'] = counted
  if 'embedding' in made:
    vectors = embedding.load(made['embedding'].folder)
    results['embedding'] = {
      'encoder': embedding.encoder_name(config.embedding),
      'dim': vectors.shape[1],
    }
    if used := made['embedding'].about.get('vectors'):
      results['embedding']['counts'] = used
  if 'semantic_ids' in made:
    folder = made['semantic_ids'].folder
    results['semantic_ids'] = semantic_ids.load_quality(folder)
  if command:
    results['command'] = command
  return results | {
    **evaluation.load(made['evaluation'].folder),
    'seconds': {name: round(x.seconds, 1) for name, x in made.items()},
    # The training environment, which may not be this machine.
    'environment': made['train'].about.get('environment', environment())
    | {'seed': config.seed},
  }
