"""Semantic IDs: a unique tuple of codes for every item."""

import dataclasses
import os

from jaxtyping import Int, Int32
import numpy as np

from tiger_jax.errors import DataError
from tiger_jax.storage.arrays import save_arrays, saved_arrays

_NAME = 'semantic_ids'


@dataclasses.dataclass(frozen=True, eq=False)
class SemanticIds:
  """The Semantic IDs of all items of a catalog.

  Example:
    >>> import tiger_jax
    >>> ids = tiger_jax.SemanticIds.load('runs/quickstart/semantic_ids')
    >>> ids.codes.shape == (600, len(ids.level_sizes))
    True

  Attributes:
    codes: The unique codes of every item.
    level_sizes: Number of codes at each level.
    num_meaning_levels: Number of semantic levels. If there is one more level,
      it holds the collision code, which numbers the items that share all other
      codes.
    provenance: The origin of the codes, for reports.
  """

  codes: Int32[np.ndarray, 'items l']
  level_sizes: tuple[int, ...]
  num_meaning_levels: int
  provenance: dict[str, str | int | float]

  def __post_init__(self):
    """Raises DataError unless the codes are unique and in range."""
    codes, sizes = self.codes, self.level_sizes
    if codes.ndim != 2 or codes.dtype.kind not in 'iu':
      raise DataError(
        f'Semantic IDs have shape {list(codes.shape)} and type {codes.dtype}: '
        'give a row of integers for each item'
      )
    if not len(codes):
      raise DataError('there are no items to give Semantic IDs to')
    counts = (*sizes, self.num_meaning_levels)
    if not all(type(x) is int and 0 < x < 2**31 for x in counts):
      raise DataError(
        f'Semantic IDs have level sizes {sizes} and {self.num_meaning_levels} '
        'semantic levels: give integers from 1 to 2**31 - 1'
      )
    num_extra_levels = len(sizes) - self.num_meaning_levels
    if codes.shape[1] != len(sizes) or num_extra_levels not in (0, 1):
      raise DataError(
        f'Semantic IDs of {codes.shape[1]} levels do not fit the '
        f'{len(sizes)} level sizes and {self.num_meaning_levels} semantic '
        'levels: make the IDs again'
      )
    if codes.min() < 0 or (codes.max(axis=0) >= np.array(sizes)).any():
      raise DataError(
        f'a code is outside of the level sizes {sizes}: make the IDs again'
      )
    keys = _row_keys(codes)
    keys.sort()
    if (keys[1:] == keys[:-1]).any():
      raise DataError('two items share a Semantic ID: make the IDs again')

  @property
  def prefixes(self) -> Int32[np.ndarray, 'items l']:
    """The semantic prefix of each item: the ID without the collision code."""
    return self.codes[:, : self.num_meaning_levels]

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes the IDs to a folder atomically."""
    metadata = {
      'level_sizes': self.level_sizes,
      'num_meaning_levels': self.num_meaning_levels,
      'provenance': self.provenance,
    }
    save_arrays(folder, _NAME, {'codes': self.codes}, metadata)

  @classmethod
  def load(cls, folder: str | os.PathLike[str]) -> 'SemanticIds':
    """Reads the IDs that `save` wrote.

    Raises:
      DataError: A file is missing or damaged.
    """
    with saved_arrays(folder, _NAME, 'table of Semantic IDs') as (
      arrays,
      metadata,
    ):
      return cls(
        codes=arrays['codes'],
        level_sizes=tuple(metadata['level_sizes']),
        num_meaning_levels=metadata['num_meaning_levels'],
        provenance=dict(metadata['provenance']),
      )


def group_rows(
  codes: Int[np.ndarray, 'items _'],
) -> tuple[Int[np.ndarray, ' items'], Int[np.ndarray, ' groups']]:
  """Groups equal rows.

  Returns:
    The group of each row, and the size of each group. Groups are numbered in
    the lexicographic order of their codes, which must not be negative.
  """
  _, group, counts = np.unique(
    _row_keys(codes), return_inverse=True, return_counts=True
  )
  return group, counts


def _row_keys(codes: Int[np.ndarray, 'items _']) -> Int[np.ndarray, ' items']:
  """Encodes each row as one number, which sorts ten times faster."""
  keys, num_keys = np.zeros(len(codes), np.int64), 1
  for code in codes.T:
    size = int(code.max(initial=0)) + 1
    if num_keys * size > np.iinfo(np.int64).max:
      keys = np.unique(keys, return_inverse=True)[1]
      num_keys = len(keys)
    keys *= size
    keys += code
    num_keys *= size
  return keys
