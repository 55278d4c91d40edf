"""The section of the dataset."""

import dataclasses

from tiger_jax.config.checks import (
  added_later,
  require_at_most,
  require_positive,
)
from tiger_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
  """Where the shop's items and histories come from.

  Attributes:
    name: `synthetic`, `files` (your own), or `amazon2014/<Category>`.
    source_dir: Folder of raw files; empty downloads the official ones.
    synthetic_users: Shoppers the synthetic shop draws.
    drop_short_users: Leave out users with fewer than three events, who cannot
      be split into train, validation and test, instead of refusing them.
    allow_missing_metadata: Keep items without a metadata record, with their
      id as their text, instead of refusing them.
    keep_repeats: Keep rows that are equal in user, item and time, instead of
      only the first of them.
    shuffle_ties: Put a user's events of one time in random order, instead of
      the order of the file.
    unseen_share: Share of the items of the test that nobody is to have bought
      before (the paper's Figure 5): they are taken out of all that comes
      before the test, and quantizers are not fitted to them.
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
