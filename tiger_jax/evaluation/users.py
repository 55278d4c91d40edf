"""The results of each test user, as the evaluation stage saves them."""

from collections.abc import Sequence
import dataclasses
import os
from pathlib import Path

from jaxtyping import Bool, Int
import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.evaluation.ranking import Ranking
from tiger_jax.storage.arrays import save_arrays, saved_arrays

_NAME = 'users'
_DEPTH = 10


@dataclasses.dataclass(frozen=True, eq=False)
class UserResults:
  """The results of r replicas of the model for n test users.

  A rank is the place of the held-out item in the list of a user, from 1 to 10;
  0 if the list lacks the item.

  Attributes:
    user: The rows of the users `[n]`, in ascending order.
    target: The row of each user's held-out item `[n]`.
    items: The rows of the listed items, best first; -1 for no item.
    rank: The rank of the held-out item.
    rank_masked: The rank in a list without the items of the history.
    rank_popularity: The rank in the list of the popularity baseline `[n]`.
    rank_transitions: The rank in the list of the baseline of transition counts
      `[n]`; None if the training histories are in shards.
  """

  user: Int[np.ndarray, ' n']
  target: Int[np.ndarray, ' n']
  items: Int[np.ndarray, 'r n k']
  rank: Int[np.ndarray, 'r n']
  rank_masked: Int[np.ndarray, 'r n']
  rank_popularity: Int[np.ndarray, ' n']
  rank_transitions: Int[np.ndarray, ' n'] | None = None

  @classmethod
  def of(
    cls,
    test: Sequence[Ranking],
    masked: Sequence[Ranking],
    popularity: Ranking,
    transitions: Ranking | None = None,
  ) -> 'UserResults':
    """Makes the results from rankings of the same users.

    Args:
      test: A ranking for each replica.
      masked: A ranking without the items of the history, for each replica.
      popularity: The ranking of the popularity baseline.
      transitions: The ranking of the baseline of transition counts, if it was
        measured.
    """
    return cls(
      user=np.asarray(popularity.user, np.int32),
      target=np.asarray(popularity.target, np.int32),
      items=np.stack([x.items[:, :_DEPTH] for x in test]).astype(np.int32),
      rank=np.stack([ranks(x.hits) for x in test]),
      rank_masked=np.stack([ranks(x.hits) for x in masked]),
      rank_popularity=ranks(popularity.hits),
      rank_transitions=ranks(transitions.hits) if transitions else None,
    )

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes `users.npz` and `users.json`."""
    arrays = {x.name: getattr(self, x.name) for x in dataclasses.fields(self)}
    arrays = {name: x for name, x in arrays.items() if x is not None}
    save_arrays(folder, _NAME, arrays, {'depth': _DEPTH})

  @classmethod
  def load(
    cls, folder: Path, dataset: Dataset, remedy: str
  ) -> 'UserResults | None':
    """Reads saved results; returns None if an older version evaluated the run.

    Raises:
      DataError: A file is damaged, or belongs to a different dataset. The
        message ends with `remedy`.
    """
    files = [folder / f'{_NAME}.{x}' for x in ('npz', 'json')]
    if not any(path.exists() for path in files):
      return None
    with saved_arrays(folder, _NAME, 'table of user results', remedy) as (
      arrays,
      _,
    ):
      names = [x.name for x in dataclasses.fields(cls)]
      results = cls(**{x: arrays[x] for x in names if x in arrays})
      results._check(dataset)
    return results

  def _check(self, dataset: Dataset) -> None:
    """Raises ValueError if the arrays do not fit each other or the dataset."""
    n, r = len(self.user), len(self.items)
    shapes = {
      'user': (n,), 'target': (n,), 'items': (r, n, self.items.shape[-1]),
      'rank': (r, n), 'rank_masked': (r, n), 'rank_popularity': (n,),
      'rank_transitions': (n,),
    }  # fmt: skip
    if dataset.training_counts is not None:
      del shapes['rank_transitions']
    for name, shape in shapes.items():
      array = getattr(self, name)
      if array is None or array.dtype.kind != 'i' or array.shape != shape:
        raise ValueError(f'{name} is missing or has a wrong shape')
    if not n or not r or (np.diff(self.user) <= 0).any() or self.user[0] < 0:
      raise ValueError('the users are not in order')
    if self.user[-1] >= dataset.num_users or not (
      np.array_equal(self.target, dataset.history[self.ends(dataset)])
    ):
      raise ValueError('the users are those of a different dataset')
    if self.items.min() < -1 or self.items.max() >= dataset.num_items:
      raise ValueError('an item is not in the catalog')
    if max(self.rank.max(), self.rank_masked.max()) > _DEPTH:
      raise ValueError('a rank is out of range')

  def ends(self, dataset: Dataset) -> Int[np.ndarray, ' n']:
    """Returns the positions of the held-out items in `Dataset.history`."""
    return dataset.offsets[1:][self.user] - 1


def ranks(hits: Bool[np.ndarray, 'n k']) -> Int[np.ndarray, ' n']:
  """Returns the rank of the held-out item of each user, 0 if it is missing."""
  hits = hits[:, :_DEPTH]
  return np.where(hits.any(1), hits.argmax(1) + 1, 0).astype(np.int8)


def hits_of(rank: Int[np.ndarray, ' n']) -> Bool[np.ndarray, 'n k']:
  """Returns the hits for given ranks; this is the inverse of `ranks`."""
  return rank[:, None] == np.arange(1, _DEPTH + 1)[None]
