"""The ranked lists of a trained model for many users, for experiments.

These experiments measure the model, not the serving search. The search is
therefore widened until the lists are proven to be the best, or until it has the
maximum number of beams. `Ranking.proven` is the share that is proven.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int
import numpy as np

from tiger_jax.config import Config
from tiger_jax.data.splits import Examples
from tiger_jax.interfaces import Batch, Recommendations, Retriever
from tiger_jax.recommenders.registry import Material
from tiger_jax.retrieval.filters import ItemLists
from tiger_jax.retrieval.items import ItemRetriever
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.stages import learning

# Beams and requests of the first search. 512 beams prove most lists of 50
# items. Compiling programs for narrower searches takes longer than they save.
_NUM_BEAMS = 512
_BATCH_SIZE = 32


class Trained(NamedTuple):
  """A model that has been trained, with all that is needed to ask it.

  Attributes:
    config: As trained.
    material: What it was made from; with embeddings, whatever it needs itself.
    retriever: From `recommenders.make_retriever`, see `for_ranking`.
    params: Of the best replica.
  """

  config: Config
  material: Material
  retriever: Retriever
  params: Any


class Ranking(NamedTuple):
  """Answers, best first.

  Attributes:
    user: Whose row `[n]`.
    target: The item `[n]` that was to be found.
    items: Item rows `[n, k]`, -1 for none.
    scores: Of the model `[n, k]`.
    num_proven: How many leading items of each list `[n]` are proven to be the
      best, in this order.
  """

  user: Int[np.ndarray, ' n']
  target: Int[np.ndarray, ' n']
  items: Int[np.ndarray, 'n k']
  scores: Float[np.ndarray, 'n k']
  num_proven: Int[np.ndarray, ' n']

  def of(self, members: Bool[np.ndarray, ' n']) -> 'Ranking':
    """Returns the lists of the selected users."""
    return Ranking(*(column[members] for column in self))

  @property
  def proven(self) -> float:
    """The share of the listed items that are proven."""
    num_listed = (self.items >= 0).sum(1)
    proven = np.minimum(self.num_proven, num_listed).sum()
    return float(proven) / max(1, int(num_listed.sum()))


def for_ranking(config: Config) -> Config:
  """Returns a config whose first search proves most lists."""
  c = config.evaluation
  return dataclasses.replace(
    config,
    evaluation=dataclasses.replace(
      c,
      num_beams=max(c.num_beams, _NUM_BEAMS),
      batch_size=min(c.batch_size, _BATCH_SIZE),
    ),
  )


def rank(
  trained: Trained,
  examples: Examples,
  k: int,
  *,
  temperature: float | None = None,
  new: bool = False,
  but: Sequence[int] | Int[np.ndarray, ' n'] = (),
) -> Ranking:
  """Returns the k best items for every example, proven where possible.

  Args:
    trained: The model.
    examples: Whom to ask for.
    k: How many.
    temperature: Draws k items at this temperature instead (TIGER only). The
      seed of a draw is the row of the user.
    new: Leave out what a user has already.
    but: Item rows that `new` does not leave out.

  Returns:
    The answers, in the order of `examples`.
  """
  answer = _answer(trained.retriever, temperature)
  ask = learning.on_mesh(trained.config, answer, trained.params)
  parts = []
  for batch in learning.evaluation_batches(
    trained.config, trained.material.dataset, examples
  ):
    real = np.asarray(batch.target) >= 0
    lists = []
    if new:
      user_items = learning.owned(trained.material, examples, batch)
      kept = np.isin(user_items.rows, np.asarray(but, np.int32))
      rows = np.where(kept, -1, user_items.rows)
      lists = [user_items._replace(rows=rows)]
    found, num_proven = ask(batch, k, *lists)
    items = np.where(found.valid, found.items, -1)
    columns = (batch.user, batch.target, items, found.scores, num_proven)
    parts.append([np.asarray(x)[real] for x in columns])
  columns = [np.concatenate(x) for x in zip(*parts, strict=True)]
  order = np.argsort(columns[0], kind='stable')
  return Ranking(*(x[order] for x in columns))


def _answer(
  retriever: Retriever, temperature: float | None
) -> Callable[..., tuple[Recommendations, Any]]:
  """Returns a function that returns lists and how many items are proven."""

  def search(
    params: Any, batch: Batch, k: int, lists: ItemLists | None = None
  ) -> tuple[Recommendations, Any]:
    assert isinstance(retriever, TigerRetriever)
    sampler = None
    if temperature is not None:
      sampler = Sampler(
        jnp.asarray(batch.user).astype(jnp.uint32),
        np.float32(temperature),
        np.int32(retriever.codes.shape[1]),
      )
    beams = retriever.search_exact(
      params, batch, k, lists=lists, sampler=sampler
    )
    columns = beams.items, beams.scores, beams.valid
    return Recommendations(*(x[:, :k] for x in columns)), beams.exact_k

  def score(
    params: Any, batch: Batch, k: int, *lists: ItemLists
  ) -> tuple[Recommendations, Any]:
    found = retriever.recommend(params, batch, k, *lists)
    approximate = isinstance(retriever, ItemRetriever) and retriever.approximate
    # An exact retriever scores all items, so its lists are proven.
    return found, jnp.where(approximate, 0, found.valid.sum(1))

  return search if isinstance(retriever, TigerRetriever) else score
