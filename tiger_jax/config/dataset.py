"""The config section `dataset`."""

import dataclasses

from tiger_jax.config.checks import (
  added_later,
  require_at_most,
  require_fraction,
  require_not_negative,
  require_one_of,
  require_positive,
)
from tiger_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class ColumnsConfig:
  """The names of the columns in your own files.

  If a name is empty, the column has its own name or one of the names in
  `data.files.column_names`.

  Attributes:
    user: The column of user ids.
    item: The column of item ids. One of the two tables may use another known
      name for this column.
    timestamp: The column of times.
    rating: The column of ratings, see `min_rating`.
    title: The column of titles.
    price: The column of prices.
    brand: The column of brands.
    categories: The column of categories.
    description: The column of descriptions.
  """

  user: str = ''
  item: str = ''
  timestamp: str = ''
  rating: str = ''
  title: str = ''
  price: str = ''
  brand: str = ''
  categories: str = ''
  description: str = ''


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
  """The source of the items and the histories.

  Attributes:
    name: `synthetic`, `files` (your own data), or a known dataset, such as
      `amazon2014/<Category>` or `movielens/1m`, see docs/data.md.
    source_dir: Folder of the raw files. If it is empty, the official files of a
      known dataset are downloaded.
    synthetic_users: Number of users of the synthetic shop.
    drop_short_users: Whether to drop users with fewer than three events, which
      cannot be split into train, validation and test. Otherwise such a user is
      an error. If `k_core` or a larger `min_history` is set, these users are
      dropped in any case.
    allow_missing_metadata: Whether to keep items without a metadata record,
      with their id as their text. Otherwise such an item is an error.
    keep_repeats: Whether to keep events that repeat the user, item and time of
      an earlier event.
    shuffle_ties: Whether to put events of a user that have the same time in
      random order. Otherwise they keep the order of the file.
    unseen_share: Share of the test items to hide from training (the paper's
      Figure 5). All events of these items are removed, except as test targets,
      and the quantizer is not fitted to these items.
    exclude_users: Path of a text file with one user id per line. The events of
      these users are dropped.
    exclude_items: Path of a text file with one item id per line. These items
      are removed from the catalog, and their events are dropped.
    min_rating: Events with a lower rating or without a rating are dropped. With
      0, all events are kept, and the ratings are not read.
    repeated_items: The events to use if a user has several events with the
      same item: `keep` (all of them), `first` or `last`.
    max_history: Number of the latest events to use of each user. 0 uses all
      events.
    min_history: Users with fewer events are dropped, see `drop_short_users`.
    k_core: Users and items with fewer events are dropped, repeatedly, until all
      remaining ones have enough. 0 keeps all items.
    max_bad_share: Largest share of bad rows in a table, such as rows without a
      user id. Bad rows are counted and dropped. With 0, the first bad row is an
      error.
    columns: The names of the columns in your own files.
  """

  name: str = 'synthetic'
  source_dir: str = ''
  synthetic_users: int = 3000
  drop_short_users: bool = False
  allow_missing_metadata: bool = False
  keep_repeats: bool = added_later(False, before=True)
  shuffle_ties: bool = False
  unseen_share: float = 0.0
  exclude_users: str = ''
  exclude_items: str = ''
  min_rating: float = 0.0
  repeated_items: str = 'keep'
  max_history: int = 0
  min_history: int = 3
  k_core: int = 0
  max_bad_share: float = 0.0
  columns: ColumnsConfig = ColumnsConfig()

  def __post_init__(self):
    """Checks the values."""
    require_positive(self, 'synthetic_users')
    require_at_most(self, 10**8, 'synthetic_users')
    require_fraction(self, 'max_bad_share')
    if not 0 <= self.unseen_share < 1:
      raise UsageError(
        f'unseen_share is {self.unseen_share}: choose from [0, 1)'
      )
    require_not_negative(self, 'min_rating', 'max_history', 'k_core')
    require_at_most(self, 10**8, 'max_history', 'min_history', 'k_core')
    require_one_of(self, 'repeated_items', ('keep', 'first', 'last'))
    if self.min_history < 3:
      raise UsageError(
        f'min_history is {self.min_history}: choose at least 3, because a user '
        'needs a validation item, a test item and an earlier item'
      )
    least = max(self.min_history, self.k_core)
    if 0 < self.max_history < least:
      raise UsageError(
        f'max_history is {self.max_history}, which leaves no user with the '
        f'{least} events that min_history and k_core require: choose at least '
        f'{least}, or 0 for all events'
      )
