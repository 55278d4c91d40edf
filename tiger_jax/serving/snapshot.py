"""An immutable state of a Recommender: one model and one catalog."""

from collections.abc import Iterable
import dataclasses
import functools

from jaxtyping import Bool, Float, Int
import numpy as np

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.data.splits import event_counts
from tiger_jax.errors import UsageError
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.serving.arguments import item_ids, listed, shown
from tiger_jax.serving.known_ids import KnownIds
from tiger_jax.serving.model import Model
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import Item
from tiger_jax.serving.text_index import ItemText


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
  """Everything that one request reads.

  Histories store each item as a row number. Rows are never reused, so a removed
  item keeps its row, and histories may still contain that row. An id that was
  removed and added again belongs to its latest row.

  Attributes:
    model: The model.
    catalog_version: 1 after loading, plus 1 for every change.
    ids: The id of every row.
    titles: The title of every row; '' if it has none.
    counts: The number of events of every row, which is its popularity.
    added: The vectors of the rows after the first `model.num_items`; None if
      there are none.
    retriever: The model as a retriever over the catalog.
  """

  model: Model
  catalog_version: int
  ids: tuple[str, ...]
  titles: tuple[str, ...]
  counts: Int[np.ndarray, ' rows']
  added: Float[np.ndarray, 'n dim'] | None
  retriever: TigerRetriever

  @classmethod
  def of(cls, model: Model) -> 'Snapshot':
    """Returns the first snapshot of the model of a run.

    Raises:
      UsageError: The Semantic IDs belong to a different catalog.
    """
    session = model.session
    dataset, ids = session.inputs.dataset, session.inputs.semantic_ids
    if len(ids.codes) != dataset.num_items:
      raise UsageError(
        f'{len(ids.codes)} Semantic IDs do not belong to a dataset of '
        f'{dataset.num_items} items: load both from one run'
      )
    return cls(
      model,
      catalog_version=1,
      ids=dataset.items.ids,
      titles=dataset.items.fields['title'],
      counts=event_counts(dataset),
      added=None,
      retriever=model.retriever(session.catalog),
    )

  def prepare(self) -> None:
    """Computes the lookup tables before the first request."""
    self.known.unknown([''])
    _ = self.model.version, self.is_listed, self.codes, self.searchable

  @property
  def catalog(self) -> Catalog:
    """The index of the items that can be recommended."""
    return self.retriever.catalog

  @property
  def num_items(self) -> int:
    """The number of items that can be recommended."""
    return self.catalog.size

  @functools.cached_property
  def known(self) -> KnownIds:
    """The ids that histories may contain, including those of removed items."""
    return KnownIds(self.ids, 'item', 'the catalog')

  @functools.cached_property
  def codes(self) -> Int[np.ndarray, 'rows l']:
    """The Semantic ID of every row, on the host."""
    return np.asarray(self.catalog.codes)[: len(self.ids)]

  @functools.cached_property
  def rows(self) -> Int[np.ndarray, ' n']:
    """The rows that can be recommended, in ascending order."""
    return np.sort(self.catalog.items()[1])

  @functools.cached_property
  def is_listed(self) -> Bool[np.ndarray, ' rows']:
    """Whether each row can be recommended."""
    listed = np.zeros(len(self.ids), bool)
    listed[self.rows] = True
    return listed

  @functools.cached_property
  def searchable(self) -> ItemText:
    """The ids and the titles of all rows, for searches."""
    return ItemText(self.ids, self.titles, self.counts)

  def with_options(self, options: Options) -> TigerRetriever:
    """Returns the retriever with the mixture that the options choose."""
    if (options.transition_weight, options.transition_kappa) == (None, None):
      return self.retriever
    return self.retriever.with_mixture(self.model.mixtures.of(options))

  def history(
    self, history: object, where: str, strict: bool
  ) -> tuple[list[int], tuple[str, ...]]:
    """Returns the rows of a history, and its unknown ids.

    Args:
      history: Item ids, see `arguments.item_ids`.
      where: The name of the argument, for error messages.
      strict: Whether an unknown id is an error. If False, it is ignored.

    Raises:
      UsageError: The history is not a list of ids, or contains an unknown id.
    """
    ids = item_ids(history, where)
    unknown = () if strict else tuple(self.known.unknown(ids))
    if unknown:
      ignored = set(unknown)
      ids = [x for x in ids if x not in ignored]
    return self.known.rows(ids, where), unknown

  def user_histories(self, users: object) -> tuple[list[int], list[list[int]]]:
    """Returns the rows of users of the run, and their histories.

    Raises:
      UsageError: There is no such user, or the model is from a bundle.
    """
    self.model.require_dataset('recommend_users')
    rows = self.model.users.rows(listed(users, 'users', 'user ids'), 'users')
    return rows, self.histories_of(rows)

  def histories_of(self, users: Iterable[int]) -> list[list[int]]:
    """Returns the histories of users, given their rows.

    Raises:
      UsageError: The model is from a bundle.
    """
    dataset = self.model.require_dataset('recommend_users')
    # An item that was removed and added again has a new row.
    ids = (
      [self.ids[x] for x in dataset.history_of(row).tolist()] for row in users
    )
    return [self.known.rows(x, 'history') for x in ids]

  def row(self, item: object) -> int:
    """Returns the row of an item that can be recommended.

    Raises:
      UsageError: There is no such item, or it was removed.
    """
    (row,) = self.known.rows([item], 'item')
    if not self.is_listed[row]:
      raise UsageError(
        f'item {shown(self.ids[row])} was removed from the catalog: name an '
        'item that can be recommended'
      )
    return row

  def title(self, row: int) -> str:
    """Returns the title of a row, or its id if it has no title."""
    return self.titles[row] or self.ids[row]

  def item(self, row: int) -> Item:
    """Returns the item of a row."""
    codes = tuple(self.codes[row].tolist())
    return Item(self.ids[row], self.title(row), codes)

  def vectors(self, rows: Int[np.ndarray, ' n']) -> Float[np.ndarray, 'n dim']:
    """Returns the vectors of rows in float32. `model.vectors` must exist."""
    old, num_old = self.model.vectors, self.model.num_items
    assert old is not None
    vectors = np.empty((len(rows), old.shape[1]), np.float32)
    is_old = rows < num_old
    vectors[is_old] = old[rows[is_old]]
    if self.added is not None:
      vectors[~is_old] = self.added[rows[~is_old] - num_old]
    return vectors
