"""The interface of quantizers, which turn embeddings into codes."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, Int


@runtime_checkable
class Quantizer(Protocol):
  """Turns each embedding into codes, one per level.

  A quantizer is a NamedTuple of arrays, tuples of arrays or nested dicts of
  arrays. It is thus a pytree, which jitted functions take as an argument and
  `Tokenizer` can save. All methods are pure and can be jitted. The result for
  one item does not depend on the other items.
  """

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Number of codes at each level."""
    ...

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Returns the codes of embeddings, which may be of new items."""
    ...

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Returns the distance from each embedding to every code of a level.

    Only the codes before `level` matter. They determine the residual, part or
    branch that the level quantizes. The distance to a code that does not exist
    in the branch is infinite. If `codes` equals `self.codes(x)`, the code at
    `level` is the nearest.
    """
    ...

  def reconstruct(
    self, codes: Int[Array, 'b l']
  ) -> Float[Array, 'b l dim'] | None:
    """Returns the embeddings that the first 1, 2, ... codes represent.

    Returns None if the codes of the quantizer represent no embeddings.
    """
    ...
