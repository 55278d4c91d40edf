"""Measures histories: lengths, ties, leaks, and the split."""

import dataclasses

from jaxtyping import Bool, Int64
import numpy as np

from tiger_jax.data import splits
from tiger_jax.data.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class Lengths:
  """The numbers of events of the users."""

  shortest: int
  median: float
  p90: float
  longest: int


@dataclasses.dataclass(frozen=True)
class Ties:
  """Events with the same time as another event of the same user.

  Attributes:
    events: The number of tied events.
    validation: The number of users whose validation target is tied with the
      event before or after it. The order of the file decides this target.
    test: The number of users whose last two events are tied.
  """

  events: int
  validation: int
  test: int


@dataclasses.dataclass(frozen=True)
class Leaks:
  """Facts about the histories that make a test target easier to predict.

  Attributes:
    repeated: The number of users with an earlier event of their test target.
    repeated_at_once: The number of these users whose previous event is of the
      test target.
    copies: The number of users with the same history as an earlier user.
    first_copy: The ids of the first two users with the same history, or ().
    later: The share of training events that are later than a test target,
      averaged over the test targets. It is None if there are no times.
  """

  repeated: int
  repeated_at_once: int
  copies: int
  first_copy: tuple[str, ...]
  later: float | None


@dataclasses.dataclass(frozen=True)
class Split:
  """The numbers of targets and items of training, validation and test.

  Attributes:
    trained_users: The number of users with a training target.
    train: The number of training targets.
    trained_items: The number of items in training events.
    cold_validation: The number of validation targets without training events.
    cold_test: The number of test targets without training events.
    test_only: The number of items whose events are all test targets.
    never_bought: The number of items without an event.
  """

  trained_users: int
  train: int
  trained_items: int
  cold_validation: int
  cold_test: int
  test_only: int
  never_bought: int


def lengths(dataset: Dataset) -> Lengths:
  """Measures the lengths of the histories."""
  counts = np.diff(dataset.offsets)
  median, p90 = np.quantile(counts, [0.5, 0.9])
  return Lengths(
    int(counts.min()), float(median), float(p90), int(counts.max())
  )


def ties(dataset: Dataset) -> Ties | None:
  """Counts the tied events; returns None if there are no times."""
  if dataset.timestamps is None:
    return None
  # Whether an event has the same time as the event before it.
  as_before = np.zeros(dataset.num_interactions, bool)
  as_before[1:] = dataset.timestamps[1:] == dataset.timestamps[:-1]
  as_before[dataset.offsets[:-1]] = False
  is_tied = as_before.copy()
  is_tied[:-1] |= as_before[1:]
  last = dataset.offsets[1:] - 1
  return Ties(
    events=int(is_tied.sum()),
    validation=int(is_tied[last - 1].sum()),
    test=int(as_before[last].sum()),
  )


def leaks(dataset: Dataset) -> Leaks:
  """Counts repeated targets and copied histories."""
  last = dataset.offsets[1:] - 1
  targets = dataset.history[last]
  as_target = dataset.history == np.repeat(targets, np.diff(dataset.offsets))
  as_target[last] = False
  user = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
  repeated = np.bincount(user[as_target], minlength=dataset.num_users) > 0
  copies, first_copy = _copies(dataset)
  return Leaks(
    repeated=int(repeated.sum()),
    repeated_at_once=int(as_target[last - 1].sum()),
    copies=copies,
    first_copy=first_copy,
    later=_later(dataset, last),
  )


def split(dataset: Dataset) -> Split:
  """Counts the targets, and the items without training events."""
  last = dataset.offsets[1:] - 1
  is_trained = splits.training_counts(dataset) > 0
  before_test = np.ones(dataset.num_interactions, bool)
  before_test[last] = False
  is_bought = _occurs(dataset, np.ones_like(before_test))
  is_test_only = is_bought & ~_occurs(dataset, before_test)
  train = splits.split(dataset, 'train')
  return Split(
    trained_users=len(np.unique(train.user)),
    train=len(train.user),
    trained_items=int(is_trained.sum()),
    cold_validation=int((~is_trained[dataset.history[last - 1]]).sum()),
    cold_test=int((~is_trained[dataset.history[last]]).sum()),
    test_only=int(is_test_only.sum()),
    never_bought=int((~is_bought).sum()),
  )


def _occurs(
  dataset: Dataset, events: Bool[np.ndarray, ' interactions']
) -> Bool[np.ndarray, ' items']:
  """Returns whether each item occurs in the selected events."""
  occurs = np.zeros(dataset.num_items, bool)
  occurs[dataset.history[events]] = True
  return occurs


def _copies(dataset: Dataset) -> tuple[int, tuple[str, ...]]:
  """Counts users with the same history as an earlier user.

  Also returns the ids of the first two such users, or ().
  """
  first_user: dict[bytes, int] = {}
  copies, first_copy = 0, ()
  for user in range(dataset.num_users):
    earlier = first_user.setdefault(dataset.history_of(user).tobytes(), user)
    if earlier != user:
      copies += 1
      ids = dataset.user_ids
      first_copy = first_copy or (ids[earlier], ids[user])
  return copies, first_copy


def _later(dataset: Dataset, last: Int64[np.ndarray, ' users']) -> float | None:
  if dataset.timestamps is None:
    return None
  times = np.sort(dataset.timestamps[splits.training_positions(dataset)])
  not_later = np.searchsorted(times, dataset.timestamps[last], side='right')
  return float(1 - not_later.mean() / len(times))
