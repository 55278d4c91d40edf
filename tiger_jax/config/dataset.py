"""The config section `dataset`."""

import dataclasses

from tiger_jax.config.checks import (
  added_later,
  require_at_most,
  require_positive,
)
from tiger_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
  """The source of the items and the histories.

  Attributes:
    name: `synthetic`, `files` (your own data), or `amazon2014/<Category>`.
    source_dir: Folder of the raw files. If it is empty, the official files of
      the Amazon data are downloaded.
    synthetic_users: Number of users of the synthetic shop.
    drop_short_users: Whether to drop users with fewer than three events, which
      cannot be split into train, validation and test. Otherwise such a user is
      an error.
    allow_missing_metadata: Whether to keep items without a metadata record,
      with their id as their text. Otherwise such an item is an error.
    keep_repeats: Whether to keep events that repeat the user, item and time of
      an earlier event.
    shuffle_ties: Whether to put events of a user that have the same time in
      random order. Otherwise they keep the order of the file.
    unseen_share: Share of the test items to hide from training (the paper's
      Figure 5). All events of these items are removed, except as test targets,
      and the quantizer is not fitted to these items.
  """

  name: str = 'synthetic'
  source_dir: str = ''
  synthetic_users: int = 3000
  drop_short_users: bool = False
  allow_missing_metadata: bool = False
  keep_repeats: bool = added_later(False, before=True)
  shuffle_ties: bool = False
  unseen_share: float = 0.0

  def __post_init__(self):
    """Checks the values."""
    require_positive(self, 'synthetic_users')
    require_at_most(self, 10**8, 'synthetic_users')
    if not 0 <= self.unseen_share < 1:
      raise UsageError(
        f'unseen_share is {self.unseen_share}: choose from [0, 1)'
      )
