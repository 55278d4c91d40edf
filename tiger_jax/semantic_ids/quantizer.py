"""What every way of making Semantic IDs offers."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, Int


@runtime_checkable
class Quantizer(Protocol):
  """Turns embeddings into codes, one per level, each item by itself.

  A quantizer is a NamedTuple whose fields are arrays, tuples of arrays or
  nested dicts of arrays: a pytree, so that it enters compiled functions as an
  argument, and `Tokenizer` can keep it on disk. Its module has a `fit` that
  makes one. All methods are pure and may be compiled.
  """

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """How many codes each level has."""
    ...

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Gives embeddings their codes, those of training or new ones."""
    ...

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Returns how far every code of a level is from an embedding.

    Only `codes` before `level` count: they say which residual, part or branch
    is left to quantize. The distance is infinite for a code that does not exist
    there. If `codes` are `codes(x)`, the code at `level` is the nearest.
    """
    ...

  def reconstruct(
    self, codes: Int[Array, 'b l']
  ) -> Float[Array, 'b l dim'] | None:
    """Returns the embedding that the first 1, 2, ... codes stand for.

    None for a quantizer whose codes stand for nothing.
    """
    ...
