"""The evaluation loop, which ranks items for many users.

`evaluation.metrics` computes metrics from a `Ranking`.
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
from tiger_jax.data.splits import Examples, split
from tiger_jax.errors import DataError, UsageError
from tiger_jax.interfaces import Batch, ItemLists, Retriever
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.items import ItemRetriever
from tiger_jax.retrieval.mixture import Gate
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime import sharding
from tiger_jax.runtime.writers import progress_line

# The maximum batch size of `until_proven`.
_PROOF_BATCH = 32


class Trained(NamedTuple):
  """A trained model.

  Attributes:
    session: The session of its run.
    params: The parameters of one replica.
    embeddings: The vectors of all items, for experiments whose baseline needs
      vectors even if the model does not; None if they were not loaded.
  """

  session: Session
  params: Any
  embeddings: Float[np.ndarray, 'items dim'] | None = None


@dataclasses.dataclass(frozen=True)
class Search:
  """The search settings of a ranking.

  Attributes:
    num_beams: The number of beams. It is doubled until it is at least the
      number of requested items.
    approximate: Allow the search to miss 5% of the best items where this is
      faster. Only for models that score items.
    until_proven: Add beams until every list is proven to be the best, up to the
      maximum number of beams. Such a ranking measures the model, and not the
      serving search.
    proof_beams: The minimum number of beams of the first search of
      `until_proven`.
    constrained: Generate only the Semantic IDs of items. Otherwise, invalid IDs
      take places in the lists. Only for generative models.
    temperature: The temperature at which items are drawn; None for the best
      items. The row of the user is the seed. Only for generative models.
    exclude_seen: Exclude the items of each user's history.
    keep: The rows of items that `exclude_seen` does not exclude.
    gate: The share of the transitions in the ranking; None for no transitions.
      Only for generative models.
  """

  num_beams: int = 30
  approximate: bool = False
  until_proven: bool = False
  # With 512 beams, most lists of 50 items are proven at once. Fewer beams would
  # save less time than the compilation of a second search takes.
  proof_beams: int = 512
  constrained: bool = True
  temperature: float | None = None
  exclude_seen: bool = False
  keep: Int[np.ndarray, ' n'] | tuple[int, ...] = ()
  gate: Gate | None = None

  @classmethod
  def from_config(cls, config: EvaluationConfig) -> 'Search':
    """Returns the search settings of a config."""
    return cls(
      config.num_beams,
      config.search == 'approximate',
      gate=Gate.from_config(config),
    )


class Ranking(NamedTuple):
  """Ranked lists of items, one for each user.

  Attributes:
    user: The rows of the users.
    target: The row of the held-out item of each user.
    items: The rows of the listed items, best first; -1 for no item.
    scores: The model's scores of the listed items.
    num_proven: The number of items at the beginning of each list that are
      proven to be the best items in the correct order.
  """

  user: Int[np.ndarray, ' n']
  target: Int[np.ndarray, ' n']
  items: Int[np.ndarray, 'n k']
  scores: Float[np.ndarray, 'n k']
  num_proven: Int[np.ndarray, ' n']

  def select(self, mask: Bool[np.ndarray, ' n']) -> 'Ranking':
    """Returns the lists of the users where `mask` is true."""
    return Ranking(*(column[mask] for column in self))

  @property
  def hits(self) -> Bool[np.ndarray, 'n k']:
    """Whether each listed item is the held-out item."""
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
  """Returns the k best items for every example, in the order of `examples`.

  Args:
    trained: The model.
    examples: At most one example per user, in the order of the users' rows.
    k: The length of the lists.
    search: The search settings.
    label: The label of a progress line. If empty, no line is shown.
  """
  if not len(examples.user):
    raise DataError('there is no user to evaluate: add users to the data')
  session = trained.session
  batch_size = session.config.evaluation.batch_size
  if search.until_proven:
    batch_size = min(batch_size, _PROOF_BATCH)
  retriever, dataset = session.mixed(search.gate), session.inputs.dataset
  is_generative = session.entry.is_generative
  parts: list[list[np.ndarray]] = []
  buckets = session.config.train.length_buckets
  source = batches.evaluation_batches(dataset, examples, batch_size, buckets)
  for batch in _with_progress(source, label, len(examples.user)):
    lists = None
    # Without exclusions, the lists are empty and not None, so that rankings
    # with and without exclusions use the same compiled program.
    if search.exclude_seen or (is_generative and search.constrained):
      lists = _excluded(dataset, examples, batch, search)
    placed, lists = sharding.shard_batch(session.mesh, (batch, lists))
    if isinstance(retriever, TigerRetriever):
      columns = _search(retriever, trained.params, placed, lists, k, search)
    else:
      columns = _score(retriever, trained.params, placed, lists, k, search)
    is_user = np.asarray(batch.target) >= 0
    columns = (batch.user, batch.target, *columns)
    parts.append([np.asarray(x)[is_user] for x in columns])
  columns = [np.concatenate(x) for x in zip(*parts, strict=True)]
  order = np.argsort(columns[0], kind='stable')
  return Ranking(*(x[order] for x in columns))


def sample_users(examples: Examples, num: int, seed: int) -> Examples:
  """Returns `num` random examples in their original order; 0 means all."""
  if not num:
    return examples
  order = np.random.default_rng(seed).permutation(len(examples.user))
  return examples.at(np.sort(order[:num]))


def split_users(session: Session, name: str) -> Examples:
  """Returns the examples of a split for the users that the config selects."""
  c = session.config
  examples = split(session.inputs.dataset, name)
  return sample_users(examples, c.evaluation.num_users, c.seed)


def require_generative(session: Session) -> None:
  """Raises UsageError unless the model generates Semantic IDs."""
  if not session.entry.is_generative:
    raise UsageError(
      f'config.model.name is {session.config.model.name!r}: choose a model '
      'that generates Semantic IDs, such as tiger'
    )


def _search(
  retriever: TigerRetriever,
  params: Any,
  batch: Batch,
  lists: ItemLists | None,
  k: int,
  search: Search,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the items, their scores, and the number of proven items."""
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
      num_beams=max(search.num_beams, search.proof_beams),
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
  """Returns the items, their scores, and the number of proven items."""
  recommend = retriever.recommend
  if isinstance(retriever, ItemRetriever) and search.approximate:
    recommend = retriever.recommend_approximately
  best = sharding.fetch(recommend(params, batch, k, lists))
  # A retriever that scores all items proves the whole list.
  num_proven = best.valid.sum(1) * (not search.approximate)
  return np.where(best.valid, best.items, -1), best.scores, num_proven


def _excluded(
  dataset: Dataset, examples: Examples, batch: Batch, search: Search
) -> ItemLists:
  """Returns the deny list of each user."""
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
  """Yields the batches and shows a progress line, unless the label is empty."""
  if not label:
    yield from source
    return
  with progress_line(label, total, unit='user') as bar:
    for batch in source:
      yield batch
      bar.update(int((np.asarray(batch.target) >= 0).sum()))
