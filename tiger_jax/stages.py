"""What each stage does: it reads artefacts and writes one into a folder."""

from collections.abc import Iterable, Iterator
import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tiger_jax.config import Config, DatasetConfig, EmbeddingConfig
from tiger_jax.data import batches, synthetic
from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.data.loading import load_dataset
from tiger_jax.data.splits import Examples, split
from tiger_jax.decoding.catalog import Catalog
from tiger_jax.decoding.retriever import TigerRetriever
from tiger_jax.embedding.encoders import embed_items
from tiger_jax.errors import CheckpointError
from tiger_jax.evaluation.evaluator import evaluate as measure
from tiger_jax.evaluation.popularity import PopularityRetriever
from tiger_jax.models.tiger import Tiger
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.shapes import Batch
from tiger_jax.training import checkpoint, loop, sharding
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.tiger import TigerTask
from tiger_jax.training.writers import MetricsWriter, progress_line
from tiger_jax.workdir import write_json

# Picking a checkpoint does not depend on how it will be evaluated.
_VALIDATION_BEAMS = 20


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


def make_retriever(
  config: Config, ids: SemanticIds, num_beams: int
) -> TigerRetriever:
  """Returns TIGER over a catalogue; parameters come separately.

  Args:
    config: As trained.
    ids: The Semantic IDs of the catalogue.
    num_beams: Beams of the search.
  """
  catalog = Catalog.from_codes(ids.codes, ids.level_sizes)
  codes = np.zeros((catalog.capacity, len(ids.level_sizes)), np.int32)
  codes[: len(ids.codes)] = ids.codes
  mesh = sharding.make_mesh()
  return TigerRetriever(
    Tiger(config.model, ids.level_sizes),
    sharding.replicate(mesh, jnp.asarray(codes)),
    sharding.replicate(mesh, catalog),
    num_beams,
  )


def train(
  config: Config,
  dataset: Dataset,
  ids: SemanticIds,
  folder: Path,
  writer: MetricsWriter,
) -> None:
  """Trains the recommender; validation NDCG@10 picks the checkpoint.

  Args:
    config: The run.
    dataset: Items and histories.
    ids: The Semantic ID of every item.
    folder: Gets the checkpoints.
    writer: Gets the metrics.
  """
  c = config.train
  retriever = make_retriever(config, ids, _VALIDATION_BEAMS)
  examples = split(dataset, 'validation')
  chosen = np.random.default_rng(config.seed).permutation(dataset.num_users)
  examples = _take(examples, np.sort(chosen[: c.evaluate_users]))

  def validate(params: Any) -> dict[str, float]:
    return measure_tiger(config, dataset, ids, retriever, params, examples)

  loop.train(
    TigerTask(retriever.model, retriever.codes),
    functools.partial(
      batches.prefetch,
      batches.TrainBatches(
        dataset,
        split(dataset, 'train'),
        c.batch_size,
        c.length_buckets,
        config.seed,
      ),
    ),
    loop.Schedule(c.steps, c.log_every, c.evaluate_every),
    c.optimizer,
    seed=config.seed,
    mesh=sharding.make_mesh(),
    folder=folder / 'checkpoints',
    writer=writer,
    label='train',
    about={'config': dataclasses.asdict(config)},
    evaluate=validate,
    best_metric='ndcg@10',
  )


def restore_params(config: Config, ids: SemanticIds, folder: Path) -> Any:
  """Returns the parameters that validation picked.

  Args:
    config: As trained.
    ids: As trained.
    folder: The train stage's.

  Raises:
    CheckpointError: They cannot be read, or do not fit the config.
  """
  model = Tiger(config.model, ids.level_sizes)
  task = TigerTask(model, jnp.asarray(ids.codes))
  optimizer = make_optimizer(config.train.optimizer, config.train.steps)
  with checkpoint.Checkpoints(folder / 'checkpoints', 'ndcg@10') as saved:
    step = saved.best_step()
    if step is None:
      raise CheckpointError(
        f'{saved.folder} holds no checkpoint: run --mode=train'
      )
    abstract = jax.eval_shape(
      lambda: loop.init_state(task, optimizer, config.seed)
    )
    state, _ = saved.restore(step, sharding.make_mesh(), abstract)
  return state.params


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
  params = restore_params(config, ids, train_folder)
  retriever = make_retriever(config, ids, config.evaluation.num_beams)
  train_items = dataset.history[_training_positions(dataset)]
  popularity = PopularityRetriever(dataset.num_items, train_items)
  measured: dict[str, Any] = {
    'metrics': {},
    'baselines': {'popularity': {}},
  }
  for name in ('validation', 'test'):
    examples = split(dataset, name)
    measured['metrics'][name] = measure_tiger(
      config, dataset, ids, retriever, params, examples, label=name
    )
    measured['baselines']['popularity'][name] = measure(
      functools.partial(popularity.recommend, None),
      _evaluation_batches(config, dataset, examples),
      _prefixes(ids),
    )
  if config.dataset.name == 'synthetic':
    best = synthetic.best_possible_recall(dataset, split(dataset, 'test'), 10)
    measured['best_possible'] = {'recall@10': best}
  write_json(folder / 'metrics.json', measured)


def measure_tiger(
  config: Config,
  dataset: Dataset,
  ids: SemanticIds,
  retriever: TigerRetriever,
  params: Any,
  examples: Examples,
  label: str = '',
) -> dict[str, float]:
  """Evaluates TIGER.

  Args:
    config: The run.
    dataset: Items and histories.
    ids: As trained with.
    retriever: From `make_retriever`.
    params: The network's parameters.
    examples: Whom to recommend for.
    label: Names the progress line; none is drawn without.

  Returns:
    See `evaluation.evaluator.evaluate`.
  """
  mesh = sharding.make_mesh()
  found = (
    sharding.shard_batch(mesh, batch)
    for batch in _evaluation_batches(config, dataset, examples)
  )
  if label:
    found = _counted(found, label, len(examples.user))
  return measure(
    functools.partial(retriever.recommend, params),
    found,
    _prefixes(ids),
    functools.partial(retriever.generated_validity, params),
  )


def _evaluation_batches(config: Config, dataset: Dataset, examples: Examples):
  return batches.evaluation_batches(
    dataset,
    examples,
    config.evaluation.batch_size,
    config.train.length_buckets,
  )


def _counted(found: Iterable[Batch], label: str, total: int) -> Iterator[Batch]:
  """Draws a progress line while batches pass."""
  with progress_line(label, total, unit='user') as bar:
    for batch in found:
      yield batch
      bar.update(int((np.asarray(batch.target) >= 0).sum()))


def _prefixes(ids: SemanticIds) -> np.ndarray:
  return ids.codes[:, : ids.num_meaning_levels]


def _take(examples: Examples, rows: np.ndarray) -> Examples:
  return Examples(*(column[rows] for column in examples))


def _training_positions(dataset: Dataset) -> np.ndarray:
  """Returns which events are neither validation nor test."""
  kept = np.ones(dataset.num_interactions, bool)
  kept[dataset.offsets[1:] - 1] = False
  kept[dataset.offsets[1:] - 2] = False
  return kept
