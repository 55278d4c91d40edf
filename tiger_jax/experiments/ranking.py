"""What a trained model answers to many users, for experiments to look into."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Float, Int
import numpy as np

from tiger_jax import learning
from tiger_jax.config import Config
from tiger_jax.data.splits import Examples
from tiger_jax.recommenders import Material
from tiger_jax.shapes import Recommendations, Retriever


class Trained(NamedTuple):
  """A model that has been trained, with all that is needed to ask it.

  Attributes:
    config: As trained.
    material: What it was made from; with embeddings, whatever it needs itself.
    retriever: From `recommenders.make_retriever`.
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
  """

  user: Int[np.ndarray, ' n']
  target: Int[np.ndarray, ' n']
  items: Int[np.ndarray, 'n k']
  scores: Float[np.ndarray, 'n k']


def rank(
  trained: Trained,
  examples: Examples,
  k: int,
  recommend: Callable[..., Recommendations] | None = None,
  new: bool = False,
) -> Ranking:
  """Asks for the k best items of every example.

  Args:
    trained: The model.
    examples: Whom to ask for.
    k: How many.
    recommend: `(params, batch, k)` to answers; the retriever's by default.
    new: Leave out what a user has already.

  Returns:
    The answers, in the order of `examples`.
  """
  ask = learning.on_mesh(
    trained.config, recommend or trained.retriever.recommend, trained.params
  )
  parts = []
  for batch in learning.evaluation_batches(
    trained.config, trained.material.dataset, examples
  ):
    real = np.asarray(batch.target) >= 0
    lists = [learning.owned(trained.material, examples, batch)] if new else []
    found = ask(batch, k, *lists)
    items = np.where(found.valid, found.items, -1)
    columns = (batch.user, batch.target, items, found.scores)
    parts.append([np.asarray(x)[real] for x in columns])
  columns = [np.concatenate(x) for x in zip(*parts, strict=True)]
  order = np.argsort(columns[0], kind='stable')
  return Ranking(*(x[order] for x in columns))
