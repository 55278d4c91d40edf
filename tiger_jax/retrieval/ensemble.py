"""An ensemble: several trained models that rank items together."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.interfaces import Batch, Codes
from tiger_jax.models.history_bias import Candidates
from tiger_jax.models.tiger import Tiger


class Ensemble(NamedTuple):
  """The parameters of an ensemble, used in place of one model's parameters.

  Attributes:
    members: The parameters. Every array has a leading axis over the members.
  """

  members: Any


@dataclasses.dataclass(frozen=True)
class BoundEnsemble:
  """Scores codes by the mean of the members' logits.

  After normalization, this is the geometric mean of the members' probabilities
  of a code. The methods are those of `Tiger`. In the cache arrays, axis 0 is
  the row, and axis 1 is the member.

  Attributes:
    model: The model of every member.
    members: The parameters of the members.
  """

  model: Tiger
  members: Any

  def encode(self, codes: Codes, batch: Batch) -> Any:
    """Encodes histories with every member."""
    return jax.vmap(
      lambda params: self.model.apply(
        {'params': params}, codes, batch, method='encode'
      )
    )(self.members)

  def empty_cache(self, num_rows: int) -> Any:
    """Returns an empty decoder cache, for use before the first code."""
    return jax.vmap(
      lambda params: self.model.apply(
        {'params': params}, num_rows, method='empty_cache'
      ),
      out_axes=1,
    )(self.members)

  def decode_step(
    self,
    level: int,
    previous: Int[Array, 'b m'] | None,
    cache: Any,
    encoded: Any,
    candidates: Candidates = Candidates(),  # noqa: B008 (it is immutable)
  ) -> tuple[Float[Array, 'b m _w'], Any]:
    """Scores the codes of one level for every beam, and extends the cache."""
    logits, cache = jax.vmap(
      lambda params, cache, encoded: self.model.apply(
        {'params': params}, level, previous, cache, encoded, candidates,
        method='decode_step',
      ),
      in_axes=(0, 1, 0),
      out_axes=(0, 1),
    )(self.members, cache, encoded)  # fmt: skip
    return jnp.mean(logits, 0), cache


def bind(model: Tiger, params: Any) -> Any:
  """Binds the parameters to the model, or to an ensemble of the model."""
  if isinstance(params, Ensemble):
    return BoundEnsemble(model, params.members)
  return model.bind({'params': params})
