"""The registry of quantizers."""

from collections.abc import Callable
import dataclasses
from typing import Any

from tiger_jax.config import SemanticIdsConfig
from tiger_jax.config.checks import choose
from tiger_jax.errors import UsageError
from tiger_jax.semantic_ids.quantizer import Quantizer
from tiger_jax.semantic_ids.quantizers import (
  hierarchical_kmeans,
  lsh,
  opq,
  random_ids,
  rq_kmeans,
  rq_vae,
  vq_vae,
)


@dataclasses.dataclass(frozen=True)
class Entry:
  """One choice of `config.semantic_ids.quantizer`.

  Attributes:
    quantizer: The class, a `Quantizer`.
    codebook_sizes: Default number of codes at each level.
    fit: A function of `(rng, embeddings, codebook_sizes)` that returns a fitted
      quantizer. Embeddings may have any float type and may be
      memory-mapped. None for an autoencoder, which `AutoencoderTask` trains.
    needs_an_item_per_code: Whether fitting needs at least one item for each
      code of a codebook.
    has_spare_codes: Whether an item can get a code that is not its nearest, as
      all values of `collisions` except `extra_code` require.
    refused_sizes: A function that returns the problem with codebook sizes, or
      None.
  """

  quantizer: type[Any]
  codebook_sizes: tuple[int, ...] = (256, 256, 256)
  fit: Callable[[Any, Any, tuple[int, ...]], Quantizer] | None = None
  needs_an_item_per_code: bool = True
  has_spare_codes: bool = True
  refused_sizes: Callable[[tuple[int, ...]], str | None] = lambda sizes: None

  @property
  def is_trained(self) -> bool:
    """Whether the quantizer is trained by gradient descent."""
    return self.fit is None


QUANTIZERS: dict[str, Entry] = {
  # Sections 3.1 and 4.1 of the paper.
  'rq_vae': Entry(rq_vae.RqVae),
  'rq_kmeans': Entry(rq_kmeans.RqKmeans, fit=rq_kmeans.fit),
  'vq_vae': Entry(vq_vae.VqVae, refused_sizes=vq_vae.refused_sizes),
  'hierarchical_kmeans': Entry(
    hierarchical_kmeans.HierarchicalKmeans,
    fit=hierarchical_kmeans.fit,
    needs_an_item_per_code=False,
    has_spare_codes=False,
  ),
  'opq': Entry(opq.Opq, fit=opq.fit),
  'lsh': Entry(
    lsh.Lsh,
    (256, 256, 256, 256),
    fit=lsh.fit,
    needs_an_item_per_code=False,
    refused_sizes=lsh.refused_sizes,
  ),
  'random': Entry(
    random_ids.RandomIds,
    (255, 255, 255, 255),
    fit=random_ids.fit,
    needs_an_item_per_code=False,
  ),
}


def entry(config: SemanticIdsConfig) -> Entry:
  """Returns the entry of the quantizer of a config.

  Raises:
    UsageError: The quantizer does not exist.
  """
  return choose(QUANTIZERS, config.quantizer, 'config.semantic_ids.quantizer')


def with_sizes(config: SemanticIdsConfig) -> SemanticIdsConfig:
  """Returns the config with the default codebook sizes if it has none."""
  if config.codebook_sizes:
    return config
  sizes = entry(config).codebook_sizes
  return dataclasses.replace(config, codebook_sizes=sizes)


def check(config: SemanticIdsConfig) -> None:
  """Raises UsageError if the quantizer does not support the settings."""
  quantizer, sizes = entry(config), config.codebook_sizes
  if problem := quantizer.refused_sizes(sizes):
    raise UsageError(
      f'config.semantic_ids.codebook_sizes is {sizes}: {problem}'
    )
  if config.collisions != 'extra_code' and not quantizer.has_spare_codes:
    raise UsageError(
      f'config.semantic_ids.collisions is {config.collisions!r}: '
      f'{config.quantizer} has no spare codes, choose extra_code'
    )
