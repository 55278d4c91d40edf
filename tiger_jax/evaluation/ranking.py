"""The ranked lists of a model for many users: the one evaluation loop.

Metrics are functions of a `Ranking`, see `evaluation.metrics`.
"""

from collections.abc import Iterable, Iterator
import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int
import numpy as np

from tiger_jax.config import EvaluationConfig
from tiger_jax.data import batches
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import Examples
from tiger_jax.errors import DataError
from tiger_jax.interfaces import Batch, Retriever
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.filters import ItemLists
from tiger_jax.retrieval.items import ItemRetriever
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime import sharding
from tiger_jax.runtime.writers import progress_line

# Beams and requests of the first search of `until_proven`. 512 beams prove most
# lists of 50 items. Compiling programs for narrower searches takes longer than
# they save.
_PROOF_BEAMS = 512
_PROOF_BATCH = 32


class Trained(NamedTuple):
  """A trained model.

  Attributes:
    session: The run.
    params: The parameters of one replica.
    embeddings: The vector of every item, for baselines of an experiment that
      need it although the model does not.
  """

  session: Session
  params: Any
  embeddings: Float[np.ndarray, 'items dim'] | None = None


@dataclasses.dataclass(frozen=True)
class Search:
  """The search settings of a ranking.

  Attributes:
    num_beams: The beams of the search; more if the lists are longer.
    approximate: May miss one in twenty of the best items, where that is faster
      (models that score items only).
    until_proven: Widen the search until every list is proven to be the best,
      or until it has the maximum number of beams. Such a ranking measures the
      model, and not the serving search.
    constrained: Search along valid Semantic IDs only. Otherwise IDs that no
      item has take places in the lists (generative models only).
    temperature: Draw items at this temperature (generative models only). The
      seed of a draw is the row of the user. None takes the best items.
    exclude_seen: Exclude the items of each user's history.
    keep: Item rows that `exclude_seen` does not exclude.
  """

  num_beams: int = 30
  approximate: bool = False
  until_proven: bool = False
  constrained: bool = True
  temperature: float | None = None
  exclude_seen: bool = False
  keep: Int[np.ndarray, ' n'] | tuple[int, ...] = ()

  @classmethod
  def of(cls, config: EvaluationConfig) -> 'Search':
    """Returns the search that a config describes."""
    return cls(config.num_beams, config.search == 'approximate')


class Ranking(NamedTuple):
  """The lists of n users, each best first.

  Attributes:
    user: The rows of the users `[n]`.
    target: The held-out item of each user `[n]`.
    items: Item rows `[n, k]`; -1 for a place without an item.
    scores: The scores of the model `[n, k]`.
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
  def hits(self) -> Bool[np.ndarray, 'n k']:
    """Whether each place holds the held-out item."""
    return self.items == self.target[:, None]

  @property
  def proven(self) -> float:
    """The share of the listed items that are proven."""
    num_listed = (self.items >= 0).sum(1)
    proven = np.minimum(self.num_proven, num_listed).sum()
    return float(proven) / max(1, int(num_listed.sum()))


def rank(
  trained: Trained,
  examples: Examples,
  k: int,
  search: Search = Search(),  # noqa: B008 (it is frozen)
  label: str = '',
) -> Ranking:
  """Returns the k best items for every example.

  Args:
    trained: The model.
    examples: The users, each at most once, in the order of their rows.
    k: The length of the lists.
    search: How to search.
    label: The label of a progress line; none is shown if it is empty.

  Returns:
    The lists, in the order of `examples`.
  """
  if not len(examples.user):
    raise DataError('there is no user to recommend for: add users to the data')
  session = trained.session
  batch_size = session.config.evaluation.batch_size
  if search.until_proven:
    batch_size = min(batch_size, _PROOF_BATCH)
  retriever, dataset = session.retriever, session.inputs.dataset
  is_generative = session.entry.is_generative
  parts: list[list[np.ndarray]] = []
  buckets = session.config.train.length_buckets
  source = batches.evaluation_batches(dataset, examples, batch_size, buckets)
  for batch in _with_progress(source, label, len(examples.user)):
    lists = None
    # Empty lists if nothing is excluded, so that both cases are one
    # program.
    if search.exclude_seen or (is_generative and search.constrained):
      lists = _excluded(dataset, examples, batch, search)
    placed, lists = sharding.shard_batch(session.mesh, (batch, lists))
    if isinstance(retriever, TigerRetriever):
      columns = _search(retriever, trained.params, placed, lists, k, search)
    else:
      columns = _score(retriever, trained.params, placed, lists, k, search)
    real = np.asarray(batch.target) >= 0
    columns = (batch.user, batch.target, *columns)
    parts.append([np.asarray(x)[real] for x in columns])
  columns = [np.concatenate(x) for x in zip(*parts, strict=True)]
  order = np.argsort(columns[0], kind='stable')
  return Ranking(*(x[order] for x in columns))


def sample_users(examples: Examples, num: int, seed: int) -> Examples:
  """Returns the examples of random users, in their order.

  Args:
    examples: The examples to draw from.
    num: How many to draw; 0 for all.
    seed: The random seed.
  """
  if not num:
    return examples
  order = np.random.default_rng(seed).permutation(len(examples.user))
  return examples.at(np.sort(order[:num]))


def _search(
  retriever: TigerRetriever,
  params: Any,
  batch: Batch,
  lists: ItemLists | None,
  k: int,
  search: Search,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the items, their scores, and how many items are proven."""
  sampler = None
  if search.temperature is not None:
    sampler = Sampler(
      jnp.asarray(batch.user).astype(jnp.uint32),
      np.float32(search.temperature),
      np.int32(retriever.codes.shape[1]),
    )
  if search.until_proven:
    beams = retriever.search_exact(
      params,
      batch,
      k,
      num_beams=max(search.num_beams, _PROOF_BEAMS),
      lists=lists,
      sampler=sampler,
    )
  else:
    beams = sharding.fetch(
      retriever.search(
        params,
        batch,
        k,
        num_beams=search.num_beams,
        constrained=search.constrained,
        lists=lists,
        sampler=sampler,
      )
    )
  items = np.where(beams.valid, beams.items, -1)
  return (
    items[:, :k],
    np.asarray(beams.scores)[:, :k],
    np.asarray(beams.exact_k),
  )


def _score(
  retriever: Retriever,
  params: Any,
  batch: Batch,
  lists: ItemLists | None,
  k: int,
  search: Search,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the items, their scores, and how many items are proven."""
  recommend = retriever.recommend
  if isinstance(retriever, ItemRetriever) and search.approximate:
    recommend = retriever.recommend_approximately
  best = sharding.fetch(recommend(params, batch, k, lists))
  # An exact retriever scores all items.
  num_proven = best.valid.sum(1) * (not search.approximate)
  return np.where(best.valid, best.items, -1), best.scores, num_proven


def _excluded(
  dataset: Dataset, examples: Examples, batch: Batch, search: Search
) -> ItemLists:
  """Returns the items that a search excludes, as a deny list per user."""
  user = np.asarray(batch.user)
  if not search.exclude_seen:
    return ItemLists.of([[]] * len(user))
  rows = np.searchsorted(examples.user, user[user >= 0])
  lists = [
    dataset.history[start:end].tolist()
    for _, start, end in zip(*examples.at(rows), strict=True)
  ]
  denied = ItemLists.of([*lists, *[[]] * (len(user) - len(lists))])
  kept = np.isin(denied.rows, np.asarray(search.keep, np.int32))
  return denied._replace(rows=np.where(kept, -1, denied.rows))


def _with_progress(
  source: Iterable[Batch], label: str, total: int
) -> Iterator[Batch]:
  """Shows a progress line while batches pass, unless the label is empty."""
  if not label:
    yield from source
    return
  with progress_line(label, total, unit='user') as bar:
    for batch in source:
      yield batch
      bar.update(int((np.asarray(batch.target) >= 0).sum()))
