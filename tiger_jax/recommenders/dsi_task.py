"""The training task of DSI: indexing and retrieval."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from tiger_jax.interfaces import Batch
from tiger_jax.models.cross_entropy import cross_entropy
from tiger_jax.models.dsi import Dsi
from tiger_jax.recommenders import tiger_task
from tiger_jax.recommenders.session import Session
from tiger_jax.recommenders.tiger_task import TigerTables, TigerTask


class DsiTables(NamedTuple):
  """The tables of the retrieval task, and the text vectors of all items."""

  retrieval: TigerTables
  vectors: Float[Array, 'items dim'] | Float[np.ndarray, 'items dim']


class DsiTask:
  """Trains with the sum of retrieval and indexing losses (DSI, section 3).

  Each step draws `num_indexed` items for the indexing loss.
  """

  def __init__(
    self,
    retrieval: TigerTask,
    vectors: Float[np.ndarray, 'items dim'],
    num_indexed: int,
  ):
    """Adds an indexing loss to a retrieval task."""
    self.model = retrieval.model
    self._retrieval = retrieval
    self._vectors = vectors
    self.num_indexed = num_indexed

  @functools.cached_property
  def tables(self) -> DsiTables:
    """The arrays that every step reads."""
    return DsiTables(self._retrieval.tables, self._vectors)

  def init(self, rng: Array) -> Any:
    """Returns initial parameters."""

    def apply_all(model: Dsi) -> Any:
      history = jnp.zeros((1, model.config.max_history), jnp.int32)
      row = jnp.zeros((1,), jnp.int32)
      codes = jnp.zeros((1, len(model.level_sizes)), jnp.int32)
      vector = jnp.zeros((1, self._vectors.shape[1]))
      logits = model(codes, Batch(history, row, row))
      return logits, model.index(codes, row, vector)

    init = jax.jit(lambda rng: self.model.init(rng, method=apply_all))
    return init(rng)['params']

  def loss(
    self, params: Any, tables: DsiTables, batch: Batch, rng: Array
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], tuple[()]]:
    """Returns the sum of the two losses, and the values to log."""
    rng, rng_items, rng_dropout = jax.random.split(rng, 3)
    loss, metrics, aux = self._retrieval.loss(
      params, tables.retrieval, batch, rng
    )
    codes = tables.retrieval.codes
    items = jax.random.randint(
      rng_items, (self.num_indexed,), 0, len(tables.vectors), jnp.int32
    )
    bound = self.model.bind({'params': params}, rngs={'dropout': rng_dropout})
    logits = bound.index(codes, items, tables.vectors[items], False)
    weight = jnp.ones(len(items))
    indexing = cross_entropy(logits, codes[items], weight).mean()
    total = metrics['loss'] + indexing
    metrics = metrics | {'loss': total, 'loss_indexing': indexing}
    return loss + indexing, metrics, aux


def make(session: Session) -> DsiTask:
  """Returns the training task of a session."""
  retrieval = tiger_task.make(session)
  num_indexed = session.config.train.batch_size
  return DsiTask(retrieval, session.features, num_indexed)
