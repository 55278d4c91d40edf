"""Makes the IDs of items unique when several items have the same codes.

`extra_code` appends a collision code, as in section 3.1 of the paper. `optimal`
moves items to unused codes instead. With both rules, new items can be added
without changing the IDs of other items. With `optimal`, they get the codes of
`nearest_free`.
"""

import bisect
from collections.abc import Callable, Iterator
import dataclasses
import functools
import itertools
import math

import jax
from jaxtyping import Array, Bool, Float, Int
import numpy as np
from scipy import optimize

from tiger_jax.errors import UsageError
from tiger_jax.semantic_ids import item_batches
from tiger_jax.semantic_ids.ids import SemanticIds, group_rows
from tiger_jax.semantic_ids.quantizer import Quantizer


def extra_code(
  codes: Int[np.ndarray, 'items l'],
  level_sizes: tuple[int, ...],
  provenance: dict[str, str | int | float],
  existing: SemanticIds | None = None,
) -> SemanticIds:
  """Appends a collision code that distinguishes items with the same codes.

  Section 3.1 of the paper: items with the same codes are numbered 0, 1, 2, ...
  in the order of their rows, which does not depend on the events (see
  `data.events.assembly`). All other items get 0. Nothing is appended if all
  codes differ.

  The rows of `existing` come first and keep their codes. New items with the
  same codes continue the numbering.

  Raises:
    DataError: There are no items, or a code is out of range.
  """
  num_levels = len(level_sizes)
  codes = _append(existing, codes)
  num_old = len(existing.codes) if existing else 0
  collision_code = np.zeros(len(codes), np.int64)
  level_size = 1
  if existing and existing.num_meaning_levels < len(existing.level_sizes):
    collision_code[:num_old] = existing.codes[:, num_levels]
    # The level never shrinks, because a model may have been trained with it.
    level_size = existing.level_sizes[num_levels]
  group, counts = group_rows(codes)
  start = np.zeros(len(counts), np.int64)
  np.maximum.at(start, group[:num_old], collision_code[:num_old] + 1)
  new = group[num_old:]
  collision_code[num_old:] = start[new] + _ranks(new, len(counts))
  # Departs from the paper: the paper reserves 256 collision codes, even if
  # fewer or none are needed.
  level_size = max(level_size, int(collision_code.max(initial=0)) + 1)
  if level_size > 1:
    codes = np.column_stack([codes, collision_code.astype(np.int32)])
    level_sizes = (*level_sizes, level_size)
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
  """Moves colliding items to the nearest free codes.

  The first of several items with the same codes keeps its codes. Each of the
  other items, in the order of the rows, takes the nearest free code of the last
  level. If no code is free, the item tries the next nearest code of the
  previous level, and so on. The rows of `existing` come first and keep their
  codes.

  Raises:
    UsageError: There are fewer possible IDs than items.
    DataError: There are no items, or a code is out of range.
  """
  sizes = quantizer.level_sizes
  num_old = len(existing.codes) if existing else 0
  codes = _append(existing, codes)
  if len(codes) > math.prod(sizes):
    raise _too_few(sizes, math.prod(sizes), len(codes))
  group, counts = group_rows(codes)
  used_ids = np.empty((len(counts), len(sizes)), np.int32)
  used_ids[group] = codes  # In sorted order, like the groups.
  tree = _Tree(used_ids, sizes)
  colliding = np.flatnonzero(_ranks(group, len(counts)))
  in_own_branch = _in_own_branch(
    quantizer, embeddings, codes[num_old:], colliding - num_old, batch_size
  )
  for i, row in enumerate(colliding):
    own = tuple(codes[row].tolist())
    new_id = tree.take_nearest(
      own,
      functools.partial(
        _distances_in_branch,
        quantizer,
        embeddings[row - num_old].astype(np.float32),
        own,
        next(in_own_branch),
      ),
    )
    if new_id is None:
      raise _too_few(sizes, len(counts) + i, len(codes))
    codes[row] = new_id
  return SemanticIds(codes, sizes, len(sizes), provenance)


def optimal(
  codes: Int[np.ndarray, 'items l'],
  quantizer: Quantizer,
  embeddings: Float[np.ndarray, 'items dim'],
  provenance: dict[str, str | int | float],
  *,
  batch_size: int = 4096,
) -> SemanticIds:
  """Reassigns the last codes so that their total distance is minimal.

  A branch consists of the items with the same codes before the last level.
  Every item of a branch gets a different last code, and the sum of the
  distances from the items to their last codes is minimal. If a branch has more
  items than codes, this is the sum over the items that stay in the branch.
  `nearest_free` moves the surplus items to other branches, in the order of
  their distances to the nearest code of the branch.

  Raises:
    UsageError: There are fewer possible IDs than items.
    DataError: There are no items, or a code is out of range.
  """
  sizes = quantizer.level_sizes
  codes = codes.astype(np.int32)
  branch, counts = group_rows(codes[:, :-1])
  group, group_counts = group_rows(codes)
  # If all codes of a branch differ, they are already optimal.
  changes = np.zeros(len(counts), bool)
  changes[branch[group_counts[group] > 1]] = True
  rows = np.flatnonzero(changes[branch])
  rows = rows[np.argsort(branch[rows], kind='stable')]
  items = zip(
    rows,
    _in_own_branch(quantizer, embeddings, codes, rows, batch_size),
    strict=True,
  )
  surplus = []
  for _, in_branch in itertools.groupby(items, lambda item: branch[item[0]]):
    members, distances = map(np.stack, zip(*in_branch, strict=True))
    # A code that does not exist in the branch has infinite distances.
    existing = np.flatnonzero(distances[0] < np.inf)
    stays, code = optimize.linear_sum_assignment(distances[:, existing])
    codes[members[stays], -1] = existing[code]
    leaves = np.setdiff1d(np.arange(len(members)), stays)
    surplus += zip(distances[leaves].min(axis=1), members[leaves], strict=True)
  moved = np.array([row for _, row in sorted(surplus)], np.int64)
  kept = np.setdiff1d(np.arange(len(codes)), moved)
  ids = SemanticIds(codes[kept], sizes, len(sizes), provenance)
  if len(moved):
    ids = nearest_free(
      codes[moved], quantizer, embeddings[moved], provenance, ids
    )
    order = np.argsort(np.concatenate([kept, moved]))
    ids = dataclasses.replace(ids, codes=ids.codes[order])
  return ids


class _Tree:
  """The tree of all IDs, which records the IDs in use.

  A branch holds all IDs that begin with the same codes. The tuple of these
  codes identifies the branch, and the empty tuple identifies the root. The
  state of a branch is computed when the branch is first entered.
  """

  def __init__(
    self, used_ids: Int[np.ndarray, 'n l'], level_sizes: tuple[int, ...]
  ):
    """Starts from the IDs in use, in lexicographic order."""
    self._used_ids = used_ids
    self._sizes = level_sizes
    self._num_used: dict[tuple[int, ...], int] = {}
    self._free: dict[tuple[int, ...], Bool[np.ndarray, ' v']] = {}

  def take_nearest(
    self,
    own: tuple[int, ...],
    distances: Callable[[tuple[int, ...]], Float[np.ndarray, ' v']],
    branch: tuple[int, ...] = (),
  ) -> tuple[int, ...] | None:
    """Takes the nearest free ID of a branch, or returns None if none is free.

    Args:
      own: The codes that the quantizer gave the item, which are the nearest.
      distances: Maps a branch to the distances of the codes that follow it.
      branch: The first codes of the ID to return.
    """
    capacity = math.prod(self._sizes[len(branch) :])
    if branch not in self._num_used:
      self._enter(branch)
    if self._num_used[branch] == capacity:
      return None
    nearest = None
    if len(branch) == len(self._sizes) - 1:
      free = self._free[branch]
      free_distances = np.where(free, distances(branch), np.inf)
      code = int(free_distances.argmin())
      if free_distances[code] < np.inf:
        free[code] = False
        nearest = (*branch, code)
    else:
      for code in _nearest_first(own, distances, branch):
        nearest = self.take_nearest(own, distances, (*branch, code))
        if nearest:
          break
    if nearest:
      self._num_used[branch] += 1
    else:
      # The codes still counted as free have infinite distance, because the
      # quantizer has no such codes in this branch. Mark the branch as full.
      self._num_used[branch] = capacity
    return nearest

  def _enter(self, branch: tuple[int, ...]) -> None:
    """Computes the initial state of a branch."""

    def key(row):
      return tuple(row[: len(branch)].tolist())

    start = bisect.bisect_left(self._used_ids, branch, key=key)
    stop = bisect.bisect_right(self._used_ids, branch, start, key=key)
    self._num_used[branch] = stop - start
    if len(branch) == len(self._sizes) - 1:
      self._free[branch] = np.ones(self._sizes[-1], bool)
      self._free[branch][self._used_ids[start:stop, -1]] = False


def _nearest_first(
  own: tuple[int, ...],
  distances: Callable[[tuple[int, ...]], Float[np.ndarray, ' v']],
  branch: tuple[int, ...],
) -> Iterator[int]:
  """Yields the existing codes of the next level, nearest first."""
  # The item's own branch usually has a free code. Then no distances are needed.
  if own[: len(branch)] == branch:
    yield own[len(branch)]
  row = distances(branch)
  for code in np.argsort(row, kind='stable').tolist():
    if row[code] < np.inf:
      yield code


def _in_own_branch(
  quantizer: Quantizer,
  embeddings: Float[np.ndarray, 'items dim'],
  codes: Int[np.ndarray, 'items l'],
  rows: Int[np.ndarray, ' n'],
  batch_size: int,
) -> Iterator[Float[np.ndarray, ' last']]:
  """Yields the distances from each item to the last codes of its branch."""
  size = item_batches.padded_size(len(rows), batch_size)
  for start in range(0, len(rows), size):
    batch = rows[start : start + size]
    padding = ((0, size - len(batch)), (0, 0))
    x = np.pad(embeddings[batch].astype(np.float32), padding)
    own = np.pad(codes[batch], padding)
    distances = _distances(quantizer, x, own, codes.shape[1] - 1)
    yield from np.asarray(distances)[: len(batch)]


def _distances_in_branch(
  quantizer: Quantizer,
  x: Float[np.ndarray, ' dim'],
  own: tuple[int, ...],
  in_own_branch: Float[np.ndarray, ' last'],
  branch: tuple[int, ...],
) -> Float[np.ndarray, ' v']:
  """Returns the distances from one item to the codes that follow a branch."""
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
  """Counts the earlier rows in the same group, for every row."""
  counts = np.bincount(group, minlength=num_groups)
  # Sorting these keys is several times faster than an argsort by group.
  keys = group * len(group)
  keys += np.arange(len(group))
  keys.sort()
  keys %= max(len(group), 1)
  ranks = np.empty(len(group), np.int64)
  ranks[keys] = np.arange(len(group)) - np.repeat(
    np.cumsum(counts) - counts, counts
  )
  return ranks


def _append(
  existing: SemanticIds | None, codes: Int[np.ndarray, 'items l']
) -> Int[np.ndarray, 'all_items l']:
  """Appends codes to the semantic prefixes of existing items."""
  if existing is None:
    return codes.astype(np.int32)
  return np.concatenate([existing.prefixes, codes]).astype(np.int32)


def _too_few(
  sizes: tuple[int, ...], num_ids: int, num_items: int
) -> UsageError:
  return UsageError(
    f'level sizes {sizes} allow {num_ids} Semantic IDs, too few for '
    f'{num_items} items: choose larger config.semantic_ids.codebook_sizes, or '
    "set config.semantic_ids.collisions='extra_code'"
  )
