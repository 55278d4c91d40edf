"""What each stage does: it reads artefacts and writes one into a folder."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from tiger_jax import learning
from tiger_jax.config import Config, DatasetConfig, EmbeddingConfig
from tiger_jax.data import synthetic
from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.data.loading import load_dataset
from tiger_jax.data.splits import split
from tiger_jax.embedding.encoders import embed_items
from tiger_jax.evaluation.evaluator import evaluate as measure
from tiger_jax.evaluation.popularity import PopularityRetriever
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.training import processes
from tiger_jax.workdir import write_json


def make_dataset(config: DatasetConfig, seed: int, folder: Path) -> None:
  """Reads the raw files, or draws the synthetic shop.

  Args:
    config: The dataset section.
    seed: Of the synthetic shop.
    folder: Gets the dataset.
  """
  load_dataset(config, seed, folder).save(folder)


def embed(config: EmbeddingConfig, items: Items, folder: Path) -> None:
  """Turns the text of every item into a vector.

  Args:
    config: The embedding section.
    items: The catalogue.
    folder: Gets `embeddings.npy`, float32 `[items, dim]`.
  """
  np.save(folder / 'embeddings.npy', embed_items(config, items))


def evaluate(
  config: Config,
  dataset: Dataset,
  ids: SemanticIds,
  train_folder: Path,
  folder: Path,
) -> None:
  """Measures TIGER and its baselines on both held-out splits.

  Args:
    config: The run.
    dataset: Items and histories.
    ids: As trained with.
    train_folder: The train stage's.
    folder: Gets `metrics.json`.
  """
  params, best = learning.restore_params(config, ids, train_folder)
  retriever = learning.make_retriever(config, ids, config.evaluation.num_beams)
  runs = learning.replicas(config)
  popularity = PopularityRetriever(
    dataset.num_items, dataset.history[_training_positions(dataset)]
  )
  measured: dict[str, Any] = {'metrics': {}, 'baselines': {'popularity': {}}}
  each: dict[str, list[dict[str, float]]] = {}
  for name in ('validation', 'test'):
    examples = split(dataset, name)
    each[name] = [
      learning.measure(
        config,
        dataset,
        ids,
        retriever,
        learning.one_replica(params, len(runs), i),
        examples,
        label=name,
      )
      for i in range(len(runs))
    ]
    measured['metrics'][name] = each[name][best]
    measured['baselines']['popularity'][name] = measure(
      functools.partial(popularity.recommend, None),
      learning.evaluation_batches(config, dataset, examples),
      ids.codes[:, : ids.num_meaning_levels],
    )
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


def _training_positions(dataset: Dataset) -> np.ndarray:
  """Returns which events are neither validation nor test."""
  kept = np.ones(dataset.num_interactions, bool)
  kept[dataset.offsets[1:] - 1] = False
  kept[dataset.offsets[1:] - 2] = False
  return kept
