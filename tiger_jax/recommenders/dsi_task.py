"""The training task of DSI: index items and retrieve them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from tiger_jax.interfaces import Batch, Codes
from tiger_jax.models.dsi import Dsi
from tiger_jax.models.tiger import cross_entropy
from tiger_jax.recommenders import tiger_task
from tiger_jax.recommenders.session import Session
from tiger_jax.recommenders.tiger_task import TigerTask


class DsiTables(NamedTuple):
  """The Semantic ID of every item, and the vector of its text."""

  codes: Codes
  vectors: Float[Array, 'items dim'] | Float[np.ndarray, 'items dim']


class DsiTask:
  """The sum of the losses of retrieval and indexing (DSI, section 3).

  `num_indexed` items are drawn in each step, to be indexed.
  """

  def __init__(
    self,
    retrieval: TigerTask,
    vectors: Float[np.ndarray, 'items dim'],
    num_indexed: int,
  ):
    """Takes the task of retrieval, and what the task of indexing needs."""
    self.model = retrieval.model
    self._retrieval = retrieval
    self.tables = DsiTables(retrieval.tables, vectors)
    self.num_indexed = num_indexed

  def init(self, rng: Array) -> Any:
    """Returns fresh parameters."""

    def both(model: Dsi) -> Any:
      history = jnp.zeros((1, model.config.max_history), jnp.int32)
      row = jnp.zeros((1,), jnp.int32)
      codes = jnp.zeros((1, len(model.level_sizes)), jnp.int32)
      vector = jnp.zeros((1, self.tables.vectors.shape[1]))
      found = model(codes, Batch(history, row, row))
      return found, model.index(codes, row, vector)

    return jax.jit(lambda rng: self.model.init(rng, method=both))(rng)['params']

  def loss(
    self, params: Any, tables: DsiTables, batch: Batch, rng: Array
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], tuple[()]]:
    """Returns the sum of both losses, and what each is made of."""
    rng, rng_items, rng_dropout = jax.random.split(rng, 3)
    loss, named, seen = self._retrieval.loss(params, tables.codes, batch, rng)
    codes = tables.codes
    items = jax.random.randint(
      rng_items, (self.num_indexed,), 0, len(tables.vectors), jnp.int32
    )
    bound = self.model.bind({'params': params}, rngs={'dropout': rng_dropout})
    logits = bound.index(codes, items, tables.vectors[items], False)
    weight = jnp.ones(len(items))
    indexing = cross_entropy(logits, codes[items], weight).mean()
    logged = {'loss': named['loss'] + indexing, 'loss_indexing': indexing}
    return loss + indexing, named | logged, seen


def make(session: Session) -> DsiTask:
  """Returns the task of a session."""
  retrieval = tiger_task.make(session)
  num_indexed = session.config.train.batch_size
  return DsiTask(retrieval, session.features, num_indexed)
