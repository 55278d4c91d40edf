"""The tokenizer: a fitted quantizer with a collision strategy."""

import dataclasses
import functools
import os
import typing
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.config.semantic_ids import COLLISIONS
from tiger_jax.errors import DataError, NumbersError
from tiger_jax.semantic_ids import collisions, item_batches
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.quantizer import Quantizer
from tiger_jax.semantic_ids.quantizers.registry import QUANTIZERS
from tiger_jax.storage.arrays import save_arrays, saved_arrays

_NAME = 'tokenizer'


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """Assigns Semantic IDs to items, including items added after training.

  Example:
    >>> import numpy as np
    >>> import tiger_jax
    >>> folder = 'runs/quickstart/semantic_ids'
    >>> tokenizer = tiger_jax.Tokenizer.load(folder)
    >>> ids = tiger_jax.SemanticIds.load(folder)
    >>> new = np.zeros((1, tokenizer.dim), np.float32)  # The vector of an item.
    >>> len(tokenizer.assign(new, ids).codes)
    601

  Attributes:
    quantizer: The fitted quantizer.
    collisions: `extra_code` or `optimal`, see `semantic_ids.collisions`.
    dim: Width of the embeddings that the quantizer was fitted to.
  """

  quantizer: Quantizer
  collisions: str
  dim: int

  def make_ids(
    self,
    embeddings: Float[np.ndarray, 'items dim'],
    provenance: dict[str, str | int | float],
    existing: SemanticIds | None = None,
  ) -> SemanticIds:
    """Assigns IDs to all items, and puts them after the `existing` IDs.

    Raises:
      UsageError: There are fewer possible IDs than items.
      DataError: There are no items, or the embeddings do not have width `dim`.
      NumbersError: A value is not finite.
    """
    return self.resolve(
      self.codes(embeddings), embeddings, provenance, existing
    )

  def resolve(
    self,
    codes: Int[np.ndarray, 'items l'],
    embeddings: Float[np.ndarray, 'items dim'],
    provenance: dict[str, str | int | float],
    existing: SemanticIds | None = None,
  ) -> SemanticIds:
    """Makes codes unique, and puts the IDs after the `existing` ones.

    Args:
      codes: The result of `codes` for the embeddings.
      embeddings: The embeddings.
      provenance: The origin of the codes, for reports.
      existing: IDs of other items.

    Raises:
      UsageError: There are fewer possible IDs than items.
      DataError: There are no items.
    """
    # Transfer the quantizer once, not for every batch.
    quantizer = jax.device_put(self.quantizer)
    if self.collisions == 'extra_code':
      return collisions.extra_code(
        codes, quantizer.level_sizes, provenance, existing
      )
    if existing is None:
      return collisions.optimal(codes, quantizer, embeddings, provenance)
    # The IDs of existing items do not change, so new items take free codes.
    return collisions.nearest_free(
      codes, quantizer, embeddings, provenance, existing
    )

  def assign(
    self, embeddings: Float[np.ndarray, 'items dim'], ids: SemanticIds
  ) -> SemanticIds:
    """Appends the IDs of new items to `ids`.

    The codes of existing items do not change. If a new item is the first to
    need a collision code, the level of collision codes is added, with code 0
    for all existing items. If this level exists already, it may become larger.

    Raises:
      UsageError: There are fewer possible IDs than items.
      DataError: The embeddings do not have width `dim`, or `ids` is from a
        different tokenizer.
      NumbersError: A value is not finite.
    """
    if not isinstance(embeddings, np.ndarray):
      embeddings = np.asarray(embeddings)
    self.require_own(ids)
    if not embeddings.size:
      return ids
    return self.make_ids(embeddings, ids.provenance, ids)

  def require_own(self, ids: SemanticIds) -> None:
    """Raises DataError if IDs are from a different tokenizer."""
    semantic_sizes = ids.level_sizes[: ids.num_meaning_levels]
    has_extra_code = len(semantic_sizes) < len(ids.level_sizes)
    if semantic_sizes != self.quantizer.level_sizes or (
      has_extra_code and self.collisions != 'extra_code'
    ):
      raise DataError(
        f'Semantic IDs with level sizes {ids.level_sizes} are not from this '
        f'tokenizer, which has level sizes {self.quantizer.level_sizes} and '
        f'collisions={self.collisions}: load both from one folder'
      )

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes the tokenizer to a folder atomically."""
    save_arrays(folder, _NAME, *self.to_arrays())

  def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the arrays of the quantizer by name, and JSON metadata."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(self.quantizer)
    arrays = {
      jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(array)
      for path, array in leaves
    }
    names = {entry.quantizer: name for name, entry in QUANTIZERS.items()}
    metadata = {
      'quantizer': names[type(self.quantizer)],
      'collisions': self.collisions,
      'dim': self.dim,
    }
    return arrays, metadata

  @classmethod
  def load(cls, folder: str | os.PathLike[str]) -> 'Tokenizer':
    """Reads a tokenizer that `save` wrote.

    Raises:
      DataError: A file is missing or damaged.
    """
    with saved_arrays(folder, _NAME, 'tokenizer') as (arrays, metadata):
      return cls.from_arrays(arrays, metadata)

  @classmethod
  def from_arrays(
    cls, arrays: dict[str, np.ndarray], metadata: dict[str, Any]
  ) -> 'Tokenizer':
    """Rebuilds a tokenizer from the result of `to_arrays`.

    Raises:
      ValueError, LookupError or TypeError: An array or a value is not valid.
    """
    quantizer = _rebuild(
      QUANTIZERS[metadata['quantizer']].quantizer, _nest(arrays)
    )
    if metadata['collisions'] not in COLLISIONS:
      raise ValueError(f'collisions {metadata["collisions"]}')
    dim = int(metadata['dim'])
    # Checks the shapes of the arrays without computing anything.
    embedding = jax.ShapeDtypeStruct((1, dim), np.float32)
    codes = jax.eval_shape(
      lambda quantizer, x: quantizer.codes(x), quantizer, embedding
    )
    if codes.shape != (1, len(quantizer.level_sizes)):
      raise ValueError(f'the codes of an item have shape {codes.shape}')
    return cls(quantizer, metadata['collisions'], dim)

  def codes(
    self, embeddings: Float[np.ndarray, 'items dim']
  ) -> Int[np.ndarray, 'items l']:
    """Returns the codes of each item, which several items may share.

    Raises:
      DataError: The embeddings do not have width `dim`.
      NumbersError: A value is not finite.
    """
    if embeddings.ndim != 2:
      raise DataError(
        f'the embeddings have shape {list(embeddings.shape)}: give a row of '
        f'{self.dim} numbers for each item'
      )
    if embeddings.dtype.kind not in 'fiu' and not jnp.issubdtype(
      embeddings.dtype, jnp.floating
    ):
      raise DataError(
        f'the embeddings have type {embeddings.dtype}: give real numbers'
      )
    dim = embeddings.shape[1]
    if dim != self.dim:
      raise DataError(
        f'the embeddings have width {dim}, but the tokenizer was fitted to '
        f'width {self.dim}: embed the items with the same encoder'
      )
    quantizer = jax.device_put(self.quantizer)
    codes = item_batches.map_items(
      functools.partial(_codes, quantizer), embeddings
    )
    non_finite = np.flatnonzero(codes[:, 0] < 0)
    if non_finite.size:
      raise NumbersError(
        f'the embedding of item row {non_finite[0]} is not finite: embed the '
        'items again'
      )
    return codes


@jax.jit
def _codes(quantizer: Quantizer, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
  """Returns the codes of each row, or -1 if the row is not finite."""
  finite = jnp.isfinite(x).all(axis=1)
  return jnp.where(finite[:, None], quantizer.codes(x), -1)


def _nest(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
  """Turns names with slashes into nested dicts."""
  nested: dict[str, Any] = {}
  for name, array in arrays.items():
    *parents, key = name.split('/')
    node = nested
    for parent in parents:
      node = node.setdefault(parent, {})
    node[key] = jnp.asarray(array)
  return nested


def _rebuild(node_type: Any, nested: Any) -> Any:
  """Builds a quantizer, or a field of one, according to its annotated type."""
  if hasattr(node_type, '_fields'):
    hints = typing.get_type_hints(node_type)
    fields = node_type._fields
    return node_type(*(_rebuild(hints[k], nested[k]) for k in fields))
  if typing.get_origin(node_type) is tuple:
    return tuple(nested[str(i)] for i in range(len(nested)))
  return nested
