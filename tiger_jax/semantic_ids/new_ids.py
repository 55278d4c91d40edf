"""Semantic IDs of new items, within the level sizes of a trained model."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.errors import DataError, UsageError
from tiger_jax.semantic_ids import collisions
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.quantizer import Quantizer
from tiger_jax.semantic_ids.tokenizer import Tokenizer


class WithCollisionLevel(NamedTuple):
  """A `Quantizer` with a last level of collision codes.

  The distance of any vector to a collision code is the code itself, so lower
  codes are preferred.

  Attributes:
    quantizer: The quantizer of the semantic levels.
    collision_codes: The codes 0, 1, ... of the last level.
  """

  quantizer: Quantizer
  collision_codes: Float[Array, ' last']

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Number of codes at each level."""
    return (*self.quantizer.level_sizes, len(self.collision_codes))

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Returns the semantic codes, followed by 0."""
    return jnp.pad(self.quantizer.codes(x), ((0, 0), (0, 1)))

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Returns the distances to the codes of a level."""
    if level < len(self.quantizer.level_sizes):
      return self.quantizer.distances(x, codes[:, :-1], level)
    shape = len(x), len(self.collision_codes)
    return jnp.broadcast_to(self.collision_codes[None], shape)

  def reconstruct(self, codes: Int[Array, 'b l']) -> None:
    """Returns None, because collision codes have no vectors."""


def assign(
  tokenizer: Tokenizer,
  vectors: Float[np.ndarray, 'n dim'],
  used: Int[np.ndarray, 'items l'],
  level_sizes: tuple[int, ...],
) -> Int[np.ndarray, 'n l']:
  """Returns unique IDs of new items that a trained model can generate.

  An item gets its nearest prefix, and the lowest free collision code if the IDs
  have collision codes. If all IDs of the prefix are in use, the item gets the
  nearest free ID. In contrast, `Tokenizer.assign` may enlarge the level of the
  collision codes.

  Args:
    tokenizer: The tokenizer of the model.
    vectors: The vectors of the new items.
    used: The IDs in use.
    level_sizes: The level sizes that the model was trained with.

  Raises:
    UsageError: There are fewer free IDs than items.
    DataError: The vectors do not have the width of the tokenizer, or the level
      sizes are those of a different tokenizer.
    NumbersError: A value is not finite.
  """
  quantizer = tokenizer.quantizer
  if len(level_sizes) > len(quantizer.level_sizes):
    codes = np.arange(level_sizes[-1], dtype=np.float32)
    quantizer = WithCollisionLevel(quantizer, jnp.asarray(codes))
  if quantizer.level_sizes != level_sizes:
    raise DataError(
      f'the model has level sizes {level_sizes}, but the tokenizer has '
      f'{quantizer.level_sizes}: load both from one run'
    )
  codes = dataclasses.replace(tokenizer, quantizer=quantizer).codes(vectors)
  existing = SemanticIds(used, level_sizes, len(level_sizes), {})
  try:
    ids = collisions.nearest_free(codes, quantizer, vectors, {}, existing)
  except UsageError as error:
    raise UsageError(
      f'there are too few free Semantic IDs for {len(vectors)} new items, '
      f'because {len(used)} of the IDs with level sizes {level_sizes} are in '
      'use: remove items, or train a model with larger codebooks'
    ) from error
  return ids.codes[len(used) :]
