"""The stage of the Semantic IDs, of one shop or shared by several."""

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
from tiger_jax.storage.artefacts import read_artefact
from tiger_jax.storage.files import write_json
from tiger_jax.training import loop
from tiger_jax.training.schedule import Schedule


class Shop(NamedTuple):
  """One catalogue of several that share an ID space.

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
  own: Shop,
  others: Sequence[Shop],
  folder: Path,
  writer: MetricsWriter,
) -> None:
  """Fits the quantizer, gives every item its ID, and measures the IDs.

  Args:
    config: The run.
    dataset: The catalogue. Items that are `unseen` get IDs as new ones do.
    own: Its embeddings.
    others: Catalogues to share the ID space with.
    folder: Gets the IDs, the tokenizer, `quality.json`, pictures, and the
      checkpoints of a quantizer that learns by gradients.
    writer: Gets the metrics.

  Raises:
    TigerError: An embedding is not finite, or there are fewer items than codes.
  """
  # Sorted, so that all runs that share the ID space fit the same codebooks.
  shops = sorted((own, *others), key=lambda shop: shop.fingerprint)
  vectors = own.embeddings
  if others and len(dataset.unseen):
    raise UsageError(
      'config.dataset.unseen_share and config.semantic_ids.shared_with are '
      'both set: choose one of them'
    )
  for shop in others:
    if shop.embeddings.shape[1] != vectors.shape[1]:
      raise DataError(
        f'the vectors of {own.name} are {vectors.shape[1]} wide, those of '
        f'{shop.name} {shop.embeddings.shape[1]}: embed both with one encoder'
      )
  if others:
    vectors = np.concatenate([shop.embeddings for shop in shops])
  known = np.setdiff1d(np.arange(len(vectors)), dataset.unseen)
  new = vectors[dataset.unseen]
  if len(new):
    vectors = vectors[known]
  item_batches.statistics(vectors)  # Refuses what is not finite.
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
    rows = np.argsort(np.concatenate([known, dataset.unseen]), kind='stable')
    ids = dataclasses.replace(ids, codes=ids.codes[rows])
  before = (s for s in shops if s.fingerprint < own.fingerprint)
  start = sum(len(shop.embeddings) for shop in before)
  rows = slice(start, start + len(own.embeddings))
  ids = dataclasses.replace(ids, codes=ids.codes[rows])
  ids.save(folder)
  tokenizer.save(folder)

  # Imported here, because serving does not need it.
  from tiger_jax.report import pictures

  categories = coarse_categories(dataset.items)
  measured = quality.measure(
    ids, own.embeddings, tokenizer.quantizer, categories
  )
  write_json(folder / 'quality.json', measured)
  pictures.draw(ids, measured, categories, folder)


def read_shared(config: Config, own: str) -> list[Shop]:
  """Reads the shops that a config shares its ID space with.

  `own` is the fingerprint of the run's own embeddings.

  Raises:
    UsageError: Vectors of different shops cannot be compared.
    DataError: A workdir has no embeddings, or those of another encoder.
  """
  c = config.embedding
  workdirs = config.semantic_ids.shared_with
  if workdirs and c.encoder == 'tfidf-svd':
    raise UsageError(
      'config.semantic_ids.shared_with needs vectors of one space, but '
      'tfidf-svd makes one for each shop: choose another '
      'config.embedding.encoder'
    )
  shops = [_read_shop(Path(workdir), c) for workdir in workdirs]
  seen = {own}
  for shop, workdir in zip(shops, workdirs, strict=True):
    if shop.fingerprint in seen:
      raise UsageError(
        f'config.semantic_ids.shared_with names {workdir}, whose items are '
        'those of this run or of a workdir before it: name another shop'
      )
    seen.add(shop.fingerprint)
  return shops


def made_from(
  config: SemanticIdsConfig, others: Sequence[Shop]
) -> dict[str, Any]:
  """Returns the settings and the shops that determine the IDs."""
  values = identity(config)
  if not registry.entry(config).is_trained:
    read = ('quantizer', 'collisions')
    values = {name: values[name] for name in read if name in values}
  return values | {
    'codebook_sizes': registry.with_sizes(config).codebook_sizes,
    # The vectors of the other shops matter, and not their folders.
    'shared_with': sorted(shop.fingerprint for shop in others),
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
  # Off the mesh; otherwise every device would repeat the same computation.
  return jax.tree.map(jnp.asarray, jax.device_get(params.model))


def refuse_sizes(config: SemanticIdsConfig, num_items: int) -> None:
  """Raises UsageError for codebook sizes that cannot work for `num_items`."""
  entry = registry.entry(config)
  if entry.is_trained:
    _refuse_warmup(config, num_items)
  sizes = registry.with_sizes(config).codebook_sizes
  where = f'config.semantic_ids.codebook_sizes {sizes}'
  num_ids = math.prod(sizes)
  if config.collisions == 'nearest_free' and num_ids < num_items:
    raise UsageError(
      f'{where} allow {num_ids} IDs, fewer than the {num_items} items: make '
      'them larger, or set config.semantic_ids.collisions to extra_code'
    )
  if not entry.codes_are_items:
    return
  if max(sizes) > num_items:
    raise UsageError(
      f'{where} ask for more codes than there are items, {num_items}: try '
      f"--config.semantic_ids.codebook_sizes='{(_fitting(num_items),) * 3}'"
    )
  first_batch = config.kmeans_init == 'first_batch'
  if first_batch and max(sizes) > config.batch_size:
    raise UsageError(
      f'{where} ask for more codes than the first batch has items: make none '
      f'larger than config.semantic_ids.batch_size, {config.batch_size}'
    )


def _fitting(num_items: int) -> int:
  """Returns a size that leaves four items or more for a code, if it can."""
  return 1 << max(1, (num_items // 4).bit_length() - 1)


def _refuse_warmup(config: SemanticIdsConfig, num_items: int) -> None:
  """Raises UsageError where the warm-up outlasts the quantizer's training."""
  c = config.optimizer
  batches_per_epoch = num_items // min(config.batch_size, num_items)
  num_steps = config.epochs * batches_per_epoch
  if c.recipe != 'adagrad' and c.warmup_steps > num_steps:
    raise UsageError(
      f'config.semantic_ids.optimizer.warmup_steps is {c.warmup_steps}, longer '
      f'than the training of {num_steps} steps ({config.epochs} epochs of '
      f'{batches_per_epoch} batches): lower it, or raise '
      'config.semantic_ids.epochs'
    )


def _read_shop(workdir: Path, config: EmbeddingConfig) -> Shop:
  data, made = (read_artefact(workdir, x) for x in ('data', 'embedding'))
  if data is None or made is None:
    raise DataError(
      f'{workdir} has no embeddings to share an ID space with: run '
      '--mode=embed there first'
    )
  names = [_encoder(x) for x in (config_of(made).embedding, config)]
  if names[0] != names[1]:
    raise DataError(
      f'{workdir} was embedded with {names[0]}, this run with {names[1]}: '
      'choose one for both'
    )
  name = f'{Dataset.load(data.folder).name} of {workdir}'
  return Shop(name, made.fingerprint, embedding.load(made.folder))


def _encoder(config: EmbeddingConfig) -> str:
  """Returns the encoder; for precomputed vectors the model is unknown."""
  hub = config.encoder == 'sentence-transformers'
  return config.model if hub else config.encoder


def load(folder: Path) -> SemanticIds:
  """Reads the Semantic IDs."""
  return SemanticIds.load(folder)


def load_quality(folder: Path) -> dict[str, Any]:
  """Reads the measured quality of the Semantic IDs."""
  return record.read_object(folder / 'quality.json')
