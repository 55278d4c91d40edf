"""The Semantic ID stage: makes the IDs of one shop, or of several together."""

from collections.abc import Sequence
import dataclasses
import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from tiger_jax.config import Config, EmbeddingConfig, SemanticIdsConfig
from tiger_jax.config.recorded import config_of, identity
from tiger_jax.data import batches
from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import DataError, UsageError
from tiger_jax.runtime import sharding
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.semantic_ids import item_batches, quality
from tiger_jax.semantic_ids.categories import coarse_categories
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.item_batches import ItemBatches
from tiger_jax.semantic_ids.quantizer import Quantizer
from tiger_jax.semantic_ids.quantizers import registry
from tiger_jax.semantic_ids.quantizers.autoencoder_task import AutoencoderTask
from tiger_jax.semantic_ids.tokenizer import Tokenizer
from tiger_jax.stages import embedding
from tiger_jax.storage import record
from tiger_jax.storage.artifacts import read_artifact
from tiger_jax.storage.files import write_json
from tiger_jax.training import loop
from tiger_jax.training.schedule import Schedule


class Shop(NamedTuple):
  """The items of a dataset. Several shops may share an ID space.

  Attributes:
    name: The name of the dataset.
    fingerprint: The fingerprint of its embedding stage.
    embeddings: A vector per item.
  """

  name: str
  fingerprint: str
  embeddings: Float[np.ndarray, 'items dim']


def build(
  config: Config,
  dataset: Dataset,
  own_shop: Shop,
  other_shops: Sequence[Shop],
  folder: Path,
  writer: MetricsWriter,
) -> None:
  """Fits the quantizer, gives every item its ID, and measures the IDs.

  Args:
    config: The settings of the run.
    dataset: The items. The quantizer is not fitted to `dataset.unseen`; these
      items get their IDs afterwards, as new items do.
    own_shop: The embeddings of the items.
    other_shops: The shops to share the ID space with.
    folder: The folder for the IDs, the tokenizer, `quality.json`, the pictures,
      and the checkpoints of a quantizer that is trained.
    writer: The writer of the training metrics.

  Raises:
    TigerError: An embedding is not finite, or there are fewer items than codes.
  """
  # Sorted, so that all runs that share the ID space fit the same codebooks.
  shops = sorted((own_shop, *other_shops), key=lambda shop: shop.fingerprint)
  vectors = own_shop.embeddings
  for shop in other_shops:
    if shop.embeddings.shape[1] != vectors.shape[1]:
      raise DataError(
        f'the vectors of {own_shop.name} have {vectors.shape[1]} dimensions, '
        f'but those of {shop.name} have {shop.embeddings.shape[1]}: embed both '
        'with the same encoder'
      )
  if other_shops:
    vectors = np.concatenate([shop.embeddings for shop in shops])
  known = np.setdiff1d(np.arange(len(vectors)), dataset.unseen)
  new = vectors[dataset.unseen]
  if len(new):
    vectors = vectors[known]
  item_batches.statistics(vectors)  # Raises an error if a vector is not finite.
  c = registry.with_sizes(config.semantic_ids)
  refuse_sizes(c, len(vectors))
  tokenizer = Tokenizer(
    _fit(c, config.seed, vectors, folder, writer),
    c.collisions,
    vectors.shape[1],
  )
  ids = tokenizer.make_ids(
    vectors,
    {
      'quantizer': c.quantizer,
      'embedding': embedding.encoder_name(config.embedding),
      'fitted_to': ', '.join(shop.name for shop in shops),
    },
  )
  if len(new):
    ids = tokenizer.assign(new, ids)
    # Restores the order of the items.
    rows = np.argsort(np.concatenate([known, dataset.unseen]), kind='stable')
    ids = dataclasses.replace(ids, codes=ids.codes[rows])
  earlier_shops = (s for s in shops if s.fingerprint < own_shop.fingerprint)
  start = sum(len(shop.embeddings) for shop in earlier_shops)
  own_rows = slice(start, start + len(own_shop.embeddings))
  ids = dataclasses.replace(ids, codes=ids.codes[own_rows])
  ids.save(folder)
  tokenizer.save(folder)

  # Imported here, because serving does not need matplotlib.
  from tiger_jax.report import pictures

  categories = coarse_categories(dataset.items)
  measured_quality = quality.measure(
    ids, own_shop.embeddings, tokenizer.quantizer, categories
  )
  write_json(folder / 'quality.json', measured_quality)
  pictures.draw(ids, measured_quality, categories, folder)


def read_shared(config: Config, own_fingerprint: str) -> list[Shop]:
  """Reads the other shops that share the ID space of a run.

  Args:
    config: The settings of the run.
    own_fingerprint: The fingerprint of the embedding stage of the run.

  Raises:
    UsageError: A shop is named twice.
    DataError: A workdir has no embeddings of the same encoder.
  """
  c = config.embedding
  workdirs = config.semantic_ids.shared_with
  shops = [_read_shop(Path(workdir), c) for workdir in workdirs]
  seen = {own_fingerprint}
  for shop, workdir in zip(shops, workdirs, strict=True):
    if shop.fingerprint in seen:
      raise UsageError(
        f'config.semantic_ids.shared_with names {workdir}, which has the same '
        'items as this run or an earlier workdir: name a different shop'
      )
    seen.add(shop.fingerprint)
  return shops


def made_from(
  config: SemanticIdsConfig, other_shops: Sequence[Shop]
) -> dict[str, Any]:
  """Returns the values that determine the IDs, for fingerprints."""
  values = identity(config)
  if not registry.entry(config).is_trained:
    used_fields = ('quantizer', 'collisions')
    values = {name: values[name] for name in used_fields if name in values}
  return values | {
    'codebook_sizes': registry.with_sizes(config).codebook_sizes,
    # The IDs depend on the vectors of other shops, not on their folders.
    'shared_with': sorted(shop.fingerprint for shop in other_shops),
  }


def _fit(
  c: SemanticIdsConfig,
  seed: int,
  embeddings: Float[np.ndarray, 'items dim'],
  folder: Path,
  writer: MetricsWriter,
) -> Quantizer:
  entry = registry.entry(c)
  if entry.fit:
    return entry.fit(jax.random.key(seed), embeddings, c.codebook_sizes)
  source = ItemBatches(embeddings, c.batch_size, seed)
  num_steps = c.epochs * source.steps_per_epoch
  params = loop.train(
    AutoencoderTask(entry.quantizer, c, source),
    functools.partial(batches.prefetch, source),
    Schedule(
      num_steps,
      log_every=max(1, num_steps // 50),
      save_every=max(1, num_steps // 20),
    ),
    c.optimizer,
    seeds=[seed],
    mesh=sharding.make_mesh(jax.local_devices()),
    folder=folder,
    writer=writer,
    label='semantic_ids',
    identity={
      'semantic_ids': dataclasses.asdict(c),
      'seed': seed,
      'embeddings': list(embeddings.shape),
    },
  )
  # Copied to one device. On the mesh, all devices would compute the same codes.
  return jax.tree.map(jnp.asarray, jax.device_get(params.model))


def refuse_sizes(config: SemanticIdsConfig, num_items: int) -> None:
  """Raises UsageError if there are too few items to fit the quantizer."""
  entry = registry.entry(config)
  if entry.is_trained:
    _refuse_warmup(config, num_items)
  sizes = registry.with_sizes(config).codebook_sizes
  where = f'config.semantic_ids.codebook_sizes {sizes}'
  num_ids = math.prod(sizes)
  if config.collisions != 'extra_code' and num_ids < num_items:
    raise UsageError(
      f'{where} allow {num_ids} IDs for {num_items} items: make the codebooks '
      'larger, or set config.semantic_ids.collisions to extra_code'
    )
  if entry.needs_an_item_per_code and max(sizes) > num_items:
    raise UsageError(
      f'{where} have more codes than there are items, {num_items}: try '
      f"--config.semantic_ids.codebook_sizes='{(fitting_size(num_items),) * 3}'"
    )


def fitting_size(num_items: int) -> int:
  """Returns a codebook size with about four to eight items per code."""
  return 1 << max(1, (num_items // 4).bit_length() - 1)


def _refuse_warmup(config: SemanticIdsConfig, num_items: int) -> None:
  """Raises UsageError if the warm-up is longer than the training."""
  c = config.optimizer
  batches_per_epoch = num_items // min(config.batch_size, num_items)
  num_steps = config.epochs * batches_per_epoch
  if c.recipe != 'adagrad' and c.warmup_steps > num_steps:
    raise UsageError(
      f'config.semantic_ids.optimizer.warmup_steps is {c.warmup_steps}, longer '
      f'than the training of {num_steps} steps ({config.epochs} epochs of '
      f'{batches_per_epoch} batches): lower warmup_steps, or raise '
      'config.semantic_ids.epochs'
    )


def _read_shop(workdir: Path, config: EmbeddingConfig) -> Shop:
  data_stage = read_artifact(workdir, 'data')
  embedding_stage = read_artifact(workdir, 'embedding')
  if data_stage is None or embedding_stage is None:
    raise DataError(
      f'{workdir} has no embeddings to share an ID space with: run '
      '--mode=embed there first'
    )
  their_encoder = _encoder(config_of(embedding_stage).embedding)
  if their_encoder != _encoder(config):
    raise DataError(
      f'{workdir} was embedded with {their_encoder}, but this run uses '
      f'{_encoder(config)}: use the same encoder for both'
    )
  name = f'{Dataset.load(data_stage.folder).name} of {workdir}'
  vectors = embedding.load(embedding_stage.folder)
  return Shop(name, embedding_stage.fingerprint, vectors)


def _encoder(config: EmbeddingConfig) -> str:
  """Returns the name of the encoder's model, or of the encoder itself."""
  has_model = config.encoder == 'sentence-transformers'
  return config.model if has_model else config.encoder


def load(folder: Path) -> SemanticIds:
  """Reads the Semantic IDs."""
  return SemanticIds.load(folder)


def load_quality(folder: Path) -> dict[str, Any]:
  """Reads the measured quality of the Semantic IDs."""
  return quality.with_new_names(record.read_object(folder / 'quality.json'))
