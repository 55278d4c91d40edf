"""One run of a recommender; its parts are built on first use."""

import dataclasses
import functools
import hashlib
import math
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np

from tiger_jax.catalog import index
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.catalog.trie import Trie
from tiger_jax.config import Config
from tiger_jax.data import splits, training_shards
from tiger_jax.data.batches import TrainBatches
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.packing import GroupedHistories, PackedBatches
from tiger_jax.data.training_shards import TrainingShards
from tiger_jax.errors import DataError, UsageError
from tiger_jax.interfaces import Retriever
from tiger_jax.models.baselines.transitions import Transitions
from tiger_jax.recommenders import checks, registry
from tiger_jax.recommenders.inputs import (
  Inputs,
  refuse_shards,
  training_counts,
  training_transitions,
)
from tiger_jax.retrieval.items import ItemRetriever
from tiger_jax.retrieval.mixture import Gate, Mixture
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime import sharding
from tiger_jax.training import replicas
from tiger_jax.training.look_up import LookUp
from tiger_jax.training.step import Task

Batches = TrainBatches | PackedBatches


def training_examples(config: Config, dataset: Dataset) -> splits.Examples:
  """Returns the training examples of a model."""
  if registry.entry(config.model).trains_every_prefix(config.model):
    return splits.sequences(dataset, config.model.max_history)
  return splits.split(dataset, 'train')


def check_transitions(dataset: Dataset) -> None:
  """Raises an error if there are no transitions between training events.

  Raises:
    UsageError: The training histories are in shards.
    DataError: No user has two training events.
  """
  refuse_shards(dataset)
  if not len(splits.transition_positions(dataset)):
    raise DataError(
      f'dataset {dataset.name} has no transitions, because no user has two '
      'training events: set config.evaluation.transition_weight to 0'
    )


def training_batches(config: Config, dataset: Dataset) -> Batches:
  """Returns the training batches of a model.

  Raises:
    UsageError: The histories are in shards that do not fit the config.
    DataError: The dataset has fewer examples than one batch, or a shard is
      missing or damaged.
  """
  c, width = config.train, config.model.max_history
  order = config.seed, c.steps_per_call
  if dataset.training_counts is not None:
    folder = Path(config.dataset.source_dir) / training_shards.FOLDER
    if not c.packed:
      raise UsageError(
        f'the training histories are in {folder}, which need packed batches: '
        'set config.train.packed=True and config.model.name=tiger'
      )
    shards = TrainingShards(folder, dataset.name, dataset.items.ids, width)
    return PackedBatches(shards, c.batch_size, *order)
  examples = training_examples(config, dataset)
  if c.packed:
    histories = GroupedHistories(dataset, examples, width)
    return PackedBatches(histories, c.batch_size, *order)
  return TrainBatches(dataset, examples, c.batch_size, c.length_buckets, *order)


@dataclasses.dataclass(frozen=True)
class Session:
  """A run of a recommender: its settings, inputs and devices.

  Every part is built on first use and then cached.
  """

  config: Config
  inputs: Inputs
  mesh: Mesh

  @classmethod
  def open(
    cls,
    config: Config,
    inputs: Inputs,
    batches: Batches | None = None,
    devices: list[jax.Device] | None = None,
  ) -> 'Session':
    """Returns a session on a mesh of several devices.

    If `config.parallel` does not fit the number of devices, the axes `tensor`
    and `fsdp` are reduced to sizes that divide this number. A model can
    therefore be evaluated and served on any number of devices. Training raises
    an error instead (see `checks.check_devices`).

    Args:
      config: The settings of the run.
      inputs: The dataset, the Semantic IDs and the item vectors.
      batches: The training batches; None to make them on first use.
      devices: The devices; None for all devices of all processes.
    """
    devices = jax.devices() if devices is None else devices
    c, num_devices = config.parallel, len(devices)
    tensor = math.gcd(c.tensor, num_devices)
    fsdp = math.gcd(c.fsdp, num_devices // tensor)
    mesh = sharding.make_mesh(devices, fsdp, tensor)
    session = cls(config, inputs, mesh)
    if batches is not None:
      session.__dict__['batches'] = batches
    return session

  @property
  def seeds(self) -> list[int]:
    """The seed of every replica."""
    return replicas.seeds(self.config.seed, self.config.train.replicas)

  @functools.cached_property
  def entry(self) -> registry.Entry:
    """The registry entry of the model."""
    return registry.entry(self.config.model)

  @functools.cached_property
  def network(self) -> Any:
    """The network, without parameters."""
    c, inputs = self.config.model, self.inputs
    network_class = registry.load(self.entry.network)
    if self.entry.is_generative:
      return network_class(c, inputs.semantic_ids.level_sizes)
    fields: dict[str, Any] = {}
    if 'semantic_ids' in self.entry.needs:
      ids = inputs.semantic_ids
      fields['level_sizes'] = ids.level_sizes[: ids.num_meaning_levels]
    dataset = inputs.dataset
    return network_class(c, dataset.num_items, dataset.num_users, **fields)

  @functools.cached_property
  def features(self) -> Any:
    """The item features of the network, on the host; None if it needs none."""
    features = self.entry.features
    return registry.load(features)(self.inputs) if features else None

  @functools.cached_property
  def batches(self) -> Batches:
    """The training batches.

    Raises:
      DataError: The dataset has fewer examples than one batch.
    """
    checks.check_devices(self.config)
    return training_batches(self.config, self.inputs.dataset)

  @property
  def own_batches(self) -> Batches:
    """The training batches. This process reads only its rows of them."""
    source = self.batches
    if isinstance(source, TrainBatches):
      return source
    own = [x for x in sharding.local_devices() if x in self.mesh.devices]
    batch_size = self.config.train.batch_size
    return source.of_rows(sharding.own_rows(self.mesh, batch_size, own))

  @functools.cached_property
  def task(self) -> Task:
    """The training task for batches of item rows."""
    return registry.load(self.entry.task)(self)

  @property
  def training_task(self) -> Task:
    """The training task for the batches in `batches`.

    If the batches hold positions of events instead of item rows, the task looks
    up the item rows on the device.
    """
    events = self.batches.events
    return self.task if events is None else LookUp(self.task, events)

  @functools.cached_property
  def catalog(self) -> Catalog:
    """The Semantic IDs and their index, on all devices."""
    ids = self.inputs.semantic_ids
    catalog = Catalog.from_codes(ids.codes, ids.level_sizes)
    return sharding.replicate(self.mesh, catalog)

  @functools.cached_property
  def training_trie(self) -> Trie | None:
    """The IDs of the items with training events, on the host.

    A trie softmax is normalized over these items only, so training does not
    lower the probabilities of other items. None if the softmax is over all
    codes, or there are no events, as in a bundle.
    """
    if self.config.model.softmax != 'trie':
      return None
    ids = self.inputs.semantic_ids
    rows = np.flatnonzero(training_counts(self.inputs))
    if not len(rows):
      return None
    layout, arrays = index.build(
      ids.codes[rows], ids.level_sizes, rows, capacity=len(rows)
    )
    return Trie(layout, arrays)

  @property
  def can_generate_invalid_ids(self) -> bool:
    """Whether the model has probabilities of IDs that no item has."""
    return self.entry.is_generative and self.config.model.softmax != 'trie'

  @functools.cached_property
  def retriever(self) -> Retriever:
    """The model as a retriever."""
    if not self.entry.is_generative:
      features = sharding.replicate(self.mesh, self.features)
      return ItemRetriever(self.network, features)
    num_beams = self.config.evaluation.num_beams
    return TigerRetriever(self.network, self.catalog, num_beams)

  @functools.cached_property
  def transitions(self) -> Transitions:
    """The transitions of the training histories, on all devices.

    The table has one row for each row of the catalog.

    Raises:
      DataError: No user has two training events.
    """
    check_transitions(self.inputs.dataset)
    table = training_transitions(self.inputs, len(self.catalog.codes))
    return sharding.replicate(self.mesh, table)

  def mixed(self, gate: Gate | None) -> Retriever:
    """Returns the retriever, with a mixture unless `gate` is None.

    A model that scores items has no mixture.
    """
    retriever = self.retriever
    if gate is None or not isinstance(retriever, TigerRetriever):
      return retriever
    mixture = sharding.replicate(self.mesh, Mixture.of(self.transitions, gate))
    return retriever.with_mixture(mixture)

  def with_catalog(self, catalog: Catalog) -> 'Session':
    """Returns a session that recommends the items of `catalog`."""
    session = dataclasses.replace(self)
    session.__dict__['catalog'] = catalog
    return session

  def baseline(self, name: str, **model: Any) -> 'Session':
    """Returns a session of an untrained baseline with the same inputs."""
    changed = dataclasses.replace(self.config.model, name=name, **model)
    train = dataclasses.replace(
      self.config.train, length_buckets=(changed.max_history,)
    )
    config = dataclasses.replace(self.config, model=changed, train=train)
    return dataclasses.replace(self, config=config)

  @functools.cached_property
  def identity(self) -> dict[str, Any]:
    """The settings that must equal those of a checkpoint to resume from it."""
    inputs = self.inputs
    catalog: dict[str, Any] = {'items': inputs.dataset.num_items}
    if inputs.ids is not None:
      codes = np.ascontiguousarray(inputs.ids.codes, np.int32)
      catalog['level_sizes'] = list(inputs.ids.level_sizes)
      catalog['sha256'] = hashlib.sha256(codes.tobytes()).hexdigest()
    if inputs.embeddings is not None:
      catalog['embeddings'] = list(inputs.embeddings.shape)
    return {
      'model': dataclasses.asdict(self.config.model),
      'train': dataclasses.asdict(self.config.train),
      'seed': self.config.seed,
      'catalog': catalog,
    }
