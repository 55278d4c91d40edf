"""Unique IDs where a quantizer gave several items the same codes.

Section 3.1 of the paper appends a code, `extra_code` here; `nearest_free`
moves items to codes that no item has.
"""

import bisect
from collections.abc import Callable, Iterator
import functools
import math

import jax
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from tiger_jax.errors import UsageError
from tiger_jax.semantic_ids.ids import SemanticIds, group_rows
from tiger_jax.semantic_ids.quantizer import Quantizer


def extra_code(
  codes: Int[np.ndarray, 'items l'],
  level_sizes: tuple[int, ...],
  provenance: dict[str, str | int | float],
  existing: SemanticIds | None = None,
) -> SemanticIds:
  """Appends the code that tells items with the same codes apart.

  Section 3.1 of the paper: items that share all codes are numbered 0, 1, 2, ...
  in the order of their rows, which does not depend on the events (see
  `data.assembly`). An item that shares them with no other gets 0. Nothing is
  appended if all codes differ.

  The rows of `existing` come first and keep their codes; the numbers continue
  after the largest.

  Raises:
    DataError: There are no items, or a code is outside of its level.
  """
  num_levels = len(level_sizes)
  codes = _after(existing, codes)
  num_old = len(existing.codes) if existing else 0
  number = np.zeros(len(codes), np.int64)
  worst = 1
  if existing and existing.num_meaning_levels < len(existing.level_sizes):
    number[:num_old] = existing.codes[:, num_levels]
    # It never shrinks: a model may have been trained with it.
    worst = existing.level_sizes[num_levels]
  group, counts = group_rows(codes)
  start = np.zeros(len(counts), np.int64)
  np.maximum.at(start, group[:num_old], number[:num_old] + 1)
  new = group[num_old:]
  number[num_old:] = start[new] + _ranks(new, len(counts))
  # Departs from the paper: it sets 256 codes aside, however few, or none, are
  # needed.
  worst = max(worst, int(number.max(initial=0)) + 1)
  if worst > 1:
    codes = np.column_stack([codes, number.astype(np.int32)])
    level_sizes = (*level_sizes, worst)
  return SemanticIds(codes, level_sizes, num_levels, provenance)


def nearest_free(
  codes: Int[np.ndarray, 'items l'],
  quantizer: Quantizer,
  embeddings: Float[np.ndarray, 'items dim'],
  provenance: dict[str, str | int | float],
  existing: SemanticIds | None = None,
  *,
  batch_size: int = 4096,
) -> SemanticIds:
  """Moves items whose codes another item has to the nearest free codes.

  Of items that share all codes the first keeps them. The others, in the order
  of their rows, take the nearest code of the last level that is free; where
  none is, they turn to the next nearest code of the level before, and so on.
  The rows of `existing` come first and keep their codes.

  Raises:
    UsageError: There are fewer IDs than items.
    DataError: There are no items, or a code is outside of its level.
  """
  sizes = quantizer.level_sizes
  num_old = len(existing.codes) if existing else 0
  codes = _after(existing, codes)
  if len(codes) > math.prod(sizes):
    raise _too_few(sizes, math.prod(sizes), len(codes))
  group, counts = group_rows(codes)
  taken = np.empty((len(counts), len(sizes)), np.int32)
  taken[group] = codes  # In order, as the groups are.
  tree = _Tree(taken, sizes)
  movers = np.flatnonzero(_ranks(group, len(counts)))
  size = min(batch_size, 1 << max(len(movers) - 1, 0).bit_length())
  for start in range(0, len(movers), size):
    rows = movers[start : start + size]
    x = embeddings[rows - num_old].astype(np.float32)
    fill = ((0, size - len(rows)), (0, 0))
    in_own_branch = np.asarray(
      _distances(
        quantizer, np.pad(x, fill), np.pad(codes[rows], fill), len(sizes) - 1
      )
    )
    for i, row in enumerate(rows):
      own = tuple(codes[row].tolist())
      found = tree.take_nearest(
        own,
        functools.partial(
          _distances_in_branch, quantizer, x[i], own, in_own_branch[i]
        ),
      )
      if found is None:
        raise _too_few(sizes, len(counts) + start + i, len(codes))
      codes[row] = found
  return SemanticIds(codes, sizes, len(sizes), provenance)


class _Tree:
  """Which codes are taken, branch by branch.

  A branch is named by its codes, one for each of the first levels; the root
  by none. What is known of a branch is worked out when it is first entered.
  """

  def __init__(
    self, taken: Int[np.ndarray, 'n l'], level_sizes: tuple[int, ...]
  ):
    """Starts from IDs that are taken, in lexicographic order."""
    self._taken = taken
    self._sizes = level_sizes
    self._num_taken: dict[tuple[int, ...], int] = {}
    self._free: dict[tuple[int, ...], Bool[np.ndarray, ' v']] = {}

  def take_nearest(
    self,
    own: tuple[int, ...],
    distances: Callable[[tuple[int, ...]], Float[np.ndarray, ' v']],
    branch: tuple[int, ...] = (),
  ) -> tuple[int, ...] | None:
    """Takes the nearest free codes in a branch; returns None if there are none.

    `own` are the codes that the quantizer gave the item, the nearest of all.
    `distances` maps a branch to the distance of each code of its next level.
    """
    capacity = math.prod(self._sizes[len(branch) :])
    if branch not in self._num_taken:
      self._enter(branch)
    if self._num_taken[branch] == capacity:
      return None
    found = None
    if len(branch) == len(self._sizes) - 1:
      free = self._free[branch]
      left = np.where(free, distances(branch), np.inf)
      code = int(left.argmin())
      if left[code] < np.inf:
        free[code] = False
        found = (*branch, code)
    else:
      for code in _nearest_first(own, distances, branch):
        found = self.take_nearest(own, distances, (*branch, code))
        if found:
          break
    if found:
      self._num_taken[branch] += 1
    else:  # What is not taken does not exist: never look here again.
      self._num_taken[branch] = capacity
    return found

  def _enter(self, branch: tuple[int, ...]) -> None:
    """Finds the IDs in a branch that were taken at the start."""

    def key(row):
      return tuple(row[: len(branch)].tolist())

    start = bisect.bisect_left(self._taken, branch, key=key)
    stop = bisect.bisect_right(self._taken, branch, start, key=key)
    self._num_taken[branch] = stop - start
    if len(branch) == len(self._sizes) - 1:
      self._free[branch] = np.ones(self._sizes[-1], bool)
      self._free[branch][self._taken[start:stop, -1]] = False


def _nearest_first(
  own: tuple[int, ...],
  distances: Callable[[tuple[int, ...]], Float[np.ndarray, ' v']],
  branch: tuple[int, ...],
) -> Iterator[int]:
  """Lists the codes that exist at the next level, the nearest first."""
  # Mostly there is room in an item's own branch, and no need to ask.
  if own[: len(branch)] == branch:
    yield own[len(branch)]
  row = distances(branch)
  for code in np.argsort(row, kind='stable').tolist():
    if row[code] < np.inf:
      yield code


def _distances_in_branch(
  quantizer: Quantizer,
  x: Float[np.ndarray, ' dim'],
  own: tuple[int, ...],
  in_own_branch: Float[np.ndarray, ' last'],
  branch: tuple[int, ...],
) -> Float[np.ndarray, ' v']:
  """Returns the distances of one item to the codes that follow a branch."""
  level = len(branch)
  if branch == own[:-1]:
    return in_own_branch
  codes = np.zeros((1, len(own)), np.int32)
  codes[0, :level] = branch
  return np.asarray(_distances(quantizer, x[None], codes, level))[0]


@functools.partial(jax.jit, static_argnums=3)
def _distances(
  quantizer: Quantizer, x: Array, codes: Array, level: int
) -> Array:
  return quantizer.distances(x, codes, level)


def _ranks(
  group: Int[np.ndarray, ' items'], num_groups: int
) -> Int[np.ndarray, ' items']:
  """Counts, for every row, the earlier rows of its group."""
  counts = np.bincount(group, minlength=num_groups)
  # Several times faster than sorting the rows by their group.
  keys = group * len(group)
  keys += np.arange(len(group))
  keys.sort()
  keys %= max(len(group), 1)
  ranks = np.empty(len(group), np.int64)
  ranks[keys] = np.arange(len(group)) - np.repeat(
    np.cumsum(counts) - counts, counts
  )
  return ranks


def _after(
  existing: SemanticIds | None, codes: Int[np.ndarray, 'items l']
) -> Int[np.ndarray, 'all_items l']:
  """Returns codes after those of meaning that exist already."""
  if existing is None:
    return codes.astype(np.int32)
  return np.concatenate([existing.prefixes, codes]).astype(np.int32)


def _too_few(
  sizes: tuple[int, ...], num_ids: int, num_items: int
) -> UsageError:
  return UsageError(
    f'level sizes {sizes} allow {num_ids} Semantic IDs, too few for '
    f'{num_items} items: choose larger config.semantic_ids.codebook_sizes, or '
    'config.semantic_ids.collisions extra_code'
  )
