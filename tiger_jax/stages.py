"""What each stage does: it reads artefacts and writes one into a folder."""

from collections.abc import Iterable
import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from tiger_jax import learning, recommenders
from tiger_jax.config import Config, DatasetConfig, EmbeddingConfig
from tiger_jax.data import counts, synthetic
from tiger_jax.data.dataset import Items
from tiger_jax.data.loading import load_dataset
from tiger_jax.data.splits import split
from tiger_jax.embedding import precomputed
from tiger_jax.embedding.encoders import embed_items
from tiger_jax.errors import TigerError
from tiger_jax.recommenders import Material
from tiger_jax.recorded_config import config_of
from tiger_jax.storage.arrays import write_array
from tiger_jax.storage.files import write_json
from tiger_jax.training import processes
from tiger_jax.workdir import read_artefact


def make_dataset(
  config: DatasetConfig, seed: int, folder: Path
) -> dict[str, Any]:
  """Reads the raw files, or draws the synthetic shop.

  Args:
    config: The dataset section.
    seed: Of the synthetic shop.
    folder: Gets the dataset.

  Returns:
    JSON to record: the `counts` of what was read, used and dropped.
  """
  load_dataset(config, seed).save(folder)
  counted = counts.read(folder)
  return {'counts': counted} if counted else {}


def embed(
  config: EmbeddingConfig, items: Items, folder: Path
) -> dict[str, Any]:
  """Turns the text of every item into a vector.

  Args:
    config: The embedding section.
    items: The catalogue.
    folder: Gets `embeddings.npy`, float32 `[items, dim]`.

  Returns:
    JSON to record: for precomputed vectors, how many of them are used.
  """
  write_array(folder / 'embeddings.npy', embed_items(config, items))
  if config.encoder != 'precomputed':
    return {}
  return {'vectors': precomputed.count_rows(config, items)}


def is_trained(config: Config, workdirs: Iterable[Path]) -> bool:
  """Returns whether a finished training has the settings of this run.

  The data may still differ, which this function does not check.

  Args:
    config: The run.
    workdirs: Folders of runs.
  """
  if not config.model.is_trained:
    return True
  wanted = (config.model, config.train, config.seed)
  damage = (TigerError, OSError, LookupError, TypeError, AttributeError)
  for workdir in workdirs:
    for record in workdir.glob('train*/stage.json'):
      # A damaged record is reported by the stage that reads it.
      with contextlib.suppress(*damage):
        if trained := read_artefact(workdir, record.parent.name):
          former = config_of(trained)
          if (former.model, former.train, former.seed) == wanted:
            return True
  return False


def evaluate(
  config: Config, material: Material, train_folder: Path, folder: Path
) -> None:
  """Measures the model and what everybody buys, on both held-out splits.

  Args:
    config: The run.
    material: What the model was made from.
    train_folder: The train stage's.
    folder: Gets `metrics.json`.
  """
  dataset = material.dataset
  params, best = learning.restore_params(config, material, train_folder)
  mesh = learning.make_mesh(config)
  retriever = recommenders.make_retriever(
    config, material, mesh, config.evaluation
  )
  runs = learning.replicas(config)
  popularity = recommenders.make_baseline('popularity', config, material, mesh)
  measured: dict[str, Any] = {'metrics': {}, 'baselines': {'popularity': {}}}
  each: dict[str, list[dict[str, float]]] = {}
  for name in ('validation', 'test'):
    examples = learning.some(
      split(dataset, name), config.evaluation.num_users, config.seed
    )
    each[name] = [
      learning.measure(config, material, retriever, x, examples, label=name)
      for x in learning.every_replica(params, len(runs))
    ]
    if name == 'test':
      each['test_masked'] = [
        learning.measure_masked(config, material, retriever, x, examples)
        for x in learning.every_replica(params, len(runs))
      ]
    measured['baselines']['popularity'][name] = learning.measure(
      config, material, popularity, {}, examples
    )
  measured['metrics'] = {name: each[name][best] for name in each}
  if len(runs) > 1:
    rate = config.train.optimizer.learning_rate
    measured['replicas'] = {
      'seed': [run.seed for run in runs],
      'learning_rate': [run.rate * rate for run in runs],
      'best_on_validation': best,
      **each,
    }
    if not config.train.learning_rates:
      for key, fn in (
        ('metrics', np.mean),
        ('standard_error', _standard_error),
      ):
        measured[key] = {
          name: learning.over_replicas(fn, each[name]) for name in each
        }
  if config.dataset.name == 'synthetic':
    recall = synthetic.best_possible_recall(dataset, split(dataset, 'test'), 10)
    measured['best_possible'] = {'recall@10': recall}
  if processes.is_main():
    write_json(folder / 'metrics.json', measured)


def _standard_error(values: list[float]) -> float:
  return np.std(values, ddof=1) / len(values) ** 0.5
