"""What TIGER learns: the codes of the next item."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tiger_jax.models.tiger import Tiger, cross_entropy
from tiger_jax.shapes import Batch, Codes


class TigerTask:
  """Next-item prediction by teacher forcing (section 3.2).

  Attributes:
    model: The network.
    tables: The Semantic ID of every item.
  """

  def __init__(self, model: Tiger, codes: Codes):
    """Takes the network and the IDs it reads and writes."""
    self.model = model
    self.tables = codes

  def init(self, rng: Array) -> Any:
    """Returns fresh parameters."""
    history = jnp.zeros((1, self.model.config.max_history), jnp.int32)
    row = jnp.zeros((1,), jnp.int32)
    init = jax.jit(self.model.init)
    return init(rng, self.tables, Batch(history, row, row))['params']

  def loss(
    self, params: Any, tables: Codes, batch: Batch, rng: Array
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], tuple[()]]:
    """Returns the cross-entropy per code, and that of every level."""
    bound = self.model.bind({'params': params}, rngs={'dropout': rng})
    logits = bound(tables, batch, deterministic=False)
    weight = jnp.asarray(batch.target >= 0, jnp.float32)
    levels = cross_entropy(logits, tables[batch.target], weight)
    named = {f'loss_level_{i}': value for i, value in enumerate(levels)}
    return levels.mean(), named, ()

  def after_update(
    self, params: Any, tables: Codes, seen: Any, step: Array, rng: Array
  ) -> Any:
    """Returns the parameters as they are."""
    del tables, seen, step, rng
    return params
