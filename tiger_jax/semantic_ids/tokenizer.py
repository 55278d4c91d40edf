"""The tokenizer: a fitted quantizer and what to do about collisions."""

import dataclasses
import functools
import os
import typing
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.errors import DataError, NumbersError
from tiger_jax.semantic_ids import collisions, item_batches
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.quantizer import Quantizer
from tiger_jax.semantic_ids.quantizers.registry import QUANTIZERS
from tiger_jax.storage.arrays import save_arrays, saved_arrays

_NAME = 'tokenizer'


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """Gives Semantic IDs to the items of training and to new items.

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
    quantizer: A quantizer of the table, fitted.
    collisions: `extra_code` or `nearest_free`, see `semantic_ids.collisions`.
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
    """Gives IDs to a whole catalogue, after those of `existing` items.

    Raises:
      UsageError: There are fewer IDs than items.
      DataError: There are no items, or embeddings of another width.
      NumbersError: A value is not finite.
    """
    # Once, and not again for every batch.
    quantizer = jax.device_put(self.quantizer)
    codes = self._codes(quantizer, embeddings)
    if self.collisions == 'extra_code':
      return collisions.extra_code(
        codes, quantizer.level_sizes, provenance, existing
      )
    return collisions.nearest_free(
      codes, quantizer, embeddings, provenance, existing
    )

  def assign(
    self, embeddings: Float[np.ndarray, 'items dim'], ids: SemanticIds
  ) -> SemanticIds:
    """Returns `ids`, and after them the IDs of new items.

    The quantizer stays as it is, and no item gets another ID, but the level of
    collisions may be larger than before, or new, with a 0 for every item that
    was there: see `level_sizes`.

    Raises:
      UsageError: There are fewer IDs than items.
      DataError: The embeddings are of another width, or the IDs are of another
        tokenizer.
      NumbersError: A value is not finite.
    """
    if not isinstance(embeddings, np.ndarray):
      embeddings = np.asarray(embeddings)
    meaning = ids.level_sizes[: ids.num_meaning_levels]
    has_extra_code = len(meaning) < len(ids.level_sizes)
    if meaning != self.quantizer.level_sizes or (
      has_extra_code and self.collisions != 'extra_code'
    ):
      raise DataError(
        f'Semantic IDs of level sizes {ids.level_sizes} are not from this '
        f'tokenizer of {self.quantizer.level_sizes} and collisions '
        f'{self.collisions}: load both from one folder'
      )
    if not embeddings.size:
      return ids
    return self.make_ids(embeddings, ids.provenance, ids)

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes the tokenizer to a folder; a reader never sees half of it."""
    flat, _ = jax.tree_util.tree_flatten_with_path(self.quantizer)
    arrays = {
      jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(array)
      for path, array in flat
    }
    names = {entry.quantizer: name for name, entry in QUANTIZERS.items()}
    about = {
      'quantizer': names[type(self.quantizer)],
      'collisions': self.collisions,
      'dim': self.dim,
    }
    save_arrays(folder, _NAME, arrays, about)

  @classmethod
  def load(cls, folder: str | os.PathLike[str]) -> 'Tokenizer':
    """Reads what `save` wrote; the tokenizer gives the same codes.

    Raises:
      DataError: A file is missing or damaged.
    """
    with saved_arrays(folder, _NAME, 'tokenizer') as (arrays, about):
      quantizer = _rebuild(
        QUANTIZERS[about['quantizer']].quantizer, _nest(arrays)
      )
      if about['collisions'] not in ('extra_code', 'nearest_free'):
        raise ValueError(f'collisions {about["collisions"]}')
      dim = int(about['dim'])
      # Finds arrays that do not fit each other, without computing anything.
      one = jax.ShapeDtypeStruct((1, dim), np.float32)
      codes = jax.eval_shape(
        lambda quantizer, x: quantizer.codes(x), quantizer, one
      )
      if codes.shape != (1, len(quantizer.level_sizes)):
        raise ValueError(f'it gives codes of shape {codes.shape}')
      return cls(quantizer, about['collisions'], dim)

  def _codes(
    self, quantizer: Quantizer, embeddings: Float[np.ndarray, 'items dim']
  ) -> Int[np.ndarray, 'items l']:
    if embeddings.ndim != 2:
      raise DataError(
        f'the embeddings have shape {list(embeddings.shape)}: give a row of '
        f'{self.dim} numbers for each item'
      )
    if embeddings.dtype.kind not in 'fiu' and not jnp.issubdtype(
      embeddings.dtype, jnp.floating
    ):
      raise DataError(
        f'the embeddings are of type {embeddings.dtype}: give real numbers'
      )
    dim = embeddings.shape[1]
    if dim != self.dim:
      raise DataError(
        f'the embeddings are {dim} wide, and the tokenizer was fitted to '
        f'{self.dim}: embed the items with the same encoder'
      )
    codes = item_batches.map_items(
      functools.partial(_codes, quantizer), embeddings
    )
    broken = np.flatnonzero(codes[:, 0] < 0)
    if broken.size:
      raise NumbersError(
        f'the embedding of item row {broken[0]} is not finite: embed the '
        'items again'
      )
    return codes


@jax.jit
def _codes(quantizer: Quantizer, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
  """Returns codes, those of a row that is not finite being -1."""
  finite = jnp.isfinite(x).all(axis=1)
  return jnp.where(finite[:, None], quantizer.codes(x), -1)


def _nest(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
  """Turns names with slashes into dicts of dicts."""
  nested: dict[str, Any] = {}
  for name, array in arrays.items():
    *folders, last = name.split('/')
    here = nested
    for folder in folders:
      here = here.setdefault(folder, {})
    here[last] = jnp.asarray(array)
  return nested


def _rebuild(kind: Any, nested: Any) -> Any:
  """Makes a quantizer, or a part of one, of the type a class says it has."""
  if hasattr(kind, '_fields'):
    hints = typing.get_type_hints(kind)
    return kind(*(_rebuild(hints[k], nested[k]) for k in kind._fields))
  if typing.get_origin(kind) is tuple:
    return tuple(nested[str(i)] for i in range(len(nested)))
  return nested
