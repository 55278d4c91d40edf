"""What each `config.model.name` is: its parts, and what they are made from."""

import dataclasses
import hashlib
from typing import Any, NamedTuple

from jax.sharding import Mesh
from jaxtyping import Float, Int
import numpy as np

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.config import Config, EvaluationConfig
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import (
  Examples,
  history_lengths,
  sequences,
  split,
  training_positions,
)
from tiger_jax.interfaces import Retriever
from tiger_jax.models.baselines.bert4rec import Bert4Rec
from tiger_jax.models.baselines.gru4rec import Gru4Rec
from tiger_jax.models.baselines.item_knn import ItemKnn
from tiger_jax.models.baselines.item_model import ItemModel
from tiger_jax.models.baselines.matrix_factorization import MatrixFactorization
from tiger_jax.models.baselines.popularity import Popularity
from tiger_jax.models.baselines.sasrec import SasRec
from tiger_jax.models.baselines.two_tower import TwoTower
from tiger_jax.models.baselines.vq_rec import VqRec
from tiger_jax.models.dsi import Dsi
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.dsi_task import DsiTask
from tiger_jax.recommenders.item_task import ItemTask
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.retrieval.items import ItemRetriever
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime import sharding
from tiger_jax.semantic_ids import item_batches
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.training.step import Task

_ITEM_MODELS: dict[str, type[ItemModel]] = {
  'sasrec': SasRec,
  'bert4rec': Bert4Rec,
  'gru4rec': Gru4Rec,
  'matrix_factorization': MatrixFactorization,
  'two_tower': TwoTower,
  'vq_rec': VqRec,
  'item_knn': ItemKnn,
  'popularity': Popularity,
}


class Material(NamedTuple):
  """What a recommender is made from.

  Attributes:
    dataset: Items and histories.
    ids: The Semantic ID of every item, for models that need them.
    embeddings: The vector of every item, for models that need them.
  """

  dataset: Dataset
  ids: SemanticIds | None = None
  embeddings: Float[np.ndarray, 'items dim'] | None = None

  @property
  def semantic_ids(self) -> SemanticIds:
    """The Semantic IDs, of which there must be some."""
    assert self.ids is not None
    return self.ids

  @property
  def vectors(self) -> Float[np.ndarray, 'items dim']:
    """The item vectors, of a model that requires them."""
    assert self.embeddings is not None
    return self.embeddings

  @property
  def prefixes(self) -> Int[np.ndarray, 'items l'] | None:
    """The levels of each item's Semantic ID that carry meaning."""
    if self.ids is None:
      return None
    return self.ids.codes[:, : self.ids.num_meaning_levels]


def make_examples(config: Config, dataset: Dataset) -> Examples:
  """Returns what the model is trained on."""
  if config.model.trains_every_prefix:
    return sequences(dataset, config.model.max_history)
  return split(dataset, 'train')


def make_task(
  config: Config,
  material: Material,
  events: Int[np.ndarray, ' n'] | None = None,
) -> Task:
  """Returns what the model learns.

  Args:
    config: The run.
    material: What the model is made from.
    events: The histories, where batches come as `Excerpts`.
  """
  if not config.model.is_generative:
    model, features = _item_model(config, material)
    return ItemTask(model, features, events)
  model = _generative(config, material.semantic_ids)
  codes = material.semantic_ids.codes.astype(np.int32)
  mean_targets = None
  if config.model.trains_every_prefix:
    lengths = history_lengths(make_examples(config, material.dataset))
    mean_targets = float(lengths.mean())
  if isinstance(model, Dsi):
    vectors = item_batches.standardize(material.vectors)
    size = config.train.batch_size
    return DsiTask(model, codes, vectors, size, events, mean_targets)
  return TigerTask(model, codes, events, mean_targets)


def make_retriever(
  config: Config, material: Material, mesh: Mesh, evaluation: EvaluationConfig
) -> Retriever:
  """Returns the model over a catalogue; parameters come separately.

  Args:
    config: As trained.
    material: What the model is made from.
    mesh: Where the catalogue is to lie.
    evaluation: How to search it.
  """
  if config.model.is_generative:
    ids = material.semantic_ids
    return make_tiger(config, ids, mesh, evaluation.num_beams)
  model, features = _item_model(config, material)
  approximate = evaluation.search == 'approximate'
  return ItemRetriever(model, sharding.replicate(mesh, features), approximate)


def make_baseline(
  name: str, config: Config, material: Material, mesh: Mesh
) -> Retriever:
  """Returns a baseline that learns nothing, beside any model.

  Args:
    name: `popularity` or `item_knn`.
    config: Of the model beside it.
    material: What the baseline is made from.
    mesh: Where the catalogue is to lie.
  """
  model = dataclasses.replace(config.model, name=name)
  baseline = dataclasses.replace(config, model=model)
  return make_retriever(baseline, material, mesh, EvaluationConfig())


def make_tiger(
  config: Config, ids: SemanticIds, mesh: Mesh, num_beams: int
) -> TigerRetriever:
  """Returns a model that generates IDs, see `make_retriever`.

  Args:
    config: As trained.
    ids: The Semantic ID of every item.
    mesh: Where the catalogue is to lie.
    num_beams: Beams of the search.
  """
  catalog = Catalog.from_codes(ids.codes, ids.level_sizes)
  codes = np.zeros((catalog.capacity, len(ids.level_sizes)), np.int32)
  codes[: len(ids.codes)] = ids.codes
  return TigerRetriever(
    _generative(config, ids),
    sharding.replicate(mesh, codes),
    sharding.replicate(mesh, catalog),
    num_beams,
  )


def about(config: Config, material: Material) -> dict[str, Any]:
  """Returns what a checkpoint must be of, to be gone on from."""
  catalog: dict[str, Any] = {'items': material.dataset.num_items}
  if material.ids is not None:
    codes = np.ascontiguousarray(material.ids.codes, np.int32)
    catalog['level_sizes'] = list(material.ids.level_sizes)
    catalog['sha256'] = hashlib.sha256(codes.tobytes()).hexdigest()
  if material.embeddings is not None:
    catalog['embeddings'] = list(material.embeddings.shape)
  return {
    'model': dataclasses.asdict(config.model),
    'train': dataclasses.asdict(config.train),
    'seed': config.seed,
    'catalog': catalog,
  }


def _generative(config: Config, ids: SemanticIds) -> Tiger:
  kind = Dsi if config.model.name == 'dsi' else Tiger
  return kind(config.model, ids.level_sizes)


def _item_model(config: Config, material: Material) -> tuple[ItemModel, Any]:
  """Returns a model that scores items, and its `features`."""
  name = config.model.name
  dataset = material.dataset
  sizes = (config.model, dataset.num_items, dataset.num_users)
  if name == 'vq_rec':
    ids = material.semantic_ids
    num_levels = ids.num_meaning_levels
    codes = ids.codes[:, :num_levels].astype(np.int32)
    return VqRec(*sizes, level_sizes=ids.level_sizes[:num_levels]), codes
  features = None
  if name == 'item_knn':
    features = np.asarray(material.vectors, np.float32)
  elif name == 'two_tower':
    features = item_batches.standardize(material.vectors)
  elif name == 'popularity':
    bought = dataset.history[training_positions(dataset)]
    counts = np.bincount(bought, minlength=dataset.num_items)
    features = counts.astype(np.float32)
  return _ITEM_MODELS[name](*sizes), features
