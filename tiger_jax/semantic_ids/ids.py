"""Semantic IDs: unique tuples of codes, kept on disk, and how good they are."""

import dataclasses
import os
from typing import Any

from jaxtyping import Int, Int32
import numpy as np

from tiger_jax.errors import DataError
from tiger_jax.semantic_ids import saved_arrays

_NAME = 'semantic_ids'


@dataclasses.dataclass(frozen=True, eq=False)
class SemanticIds:
  """The Semantic ID of every item of a catalogue.

  Attributes:
    codes: One row per item, no two alike.
    level_sizes: How many codes each level has.
    num_meaning_levels: Levels that carry meaning: all of them, or all but the
      last, which then numbers the items that share all other codes.
    provenance: How the codes were made, for people and reports to read.
  """

  codes: Int32[np.ndarray, 'items l']
  level_sizes: tuple[int, ...]
  num_meaning_levels: int
  provenance: dict[str, str | int | float]

  def __post_init__(self):
    """Checks that the codes are what the rest of the system relies on."""
    codes, sizes = self.codes, self.level_sizes
    if not len(codes):
      raise DataError('there are no items to give Semantic IDs to')
    num_extra_levels = len(sizes) - self.num_meaning_levels
    if codes.shape[1] != len(sizes) or num_extra_levels not in (0, 1):
      raise DataError(
        f'Semantic IDs of {codes.shape[1]} levels do not fit the '
        f'{len(sizes)} level sizes and {self.num_meaning_levels} levels of '
        'meaning: make the IDs again'
      )
    if codes.min() < 0 or (codes.max(axis=0) >= np.array(sizes)).any():
      raise DataError(
        f'a code is outside of the level sizes {sizes}: make the IDs again'
      )
    if len(group_rows(codes)[1]) != len(codes):
      raise DataError('two items share a Semantic ID: make the IDs again')

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes the IDs to a folder, so that they are never read half written.

    Args:
      folder: Is made where it is missing.
    """
    about = {
      'level_sizes': self.level_sizes,
      'num_meaning_levels': self.num_meaning_levels,
      'provenance': self.provenance,
    }
    saved_arrays.save(folder, _NAME, {'codes': self.codes}, about)

  @classmethod
  def load(cls, folder: str | os.PathLike[str]) -> 'SemanticIds':
    """Reads what `save` wrote.

    Args:
      folder: Where the IDs are.

    Returns:
      The IDs.

    Raises:
      DataError: A file is missing or damaged.
    """
    try:
      arrays, about = saved_arrays.load(folder, _NAME)
      return cls(
        codes=arrays['codes'],
        level_sizes=tuple(about['level_sizes']),
        num_meaning_levels=about['num_meaning_levels'],
        provenance=about['provenance'],
      )
    except saved_arrays.DAMAGE as e:
      raise saved_arrays.damaged(folder, 'table of Semantic IDs', e) from e


def resolve_collisions(codes, codebook_size, provenance):
  """Stands in for `collisions.extra_code` until its callers have moved."""
  from tiger_jax.semantic_ids import collisions

  sizes = (codebook_size,) * codes.shape[1]
  return collisions.extra_code(codes, sizes, provenance)


def report(ids: SemanticIds) -> dict[str, Any]:
  """Measures how good IDs are before any recommender is trained on them.

  Args:
    ids: The IDs.

  Returns:
    `usage`: per level of meaning, the share of its codes that items have.
    `perplexity`: per level of meaning, the exponential of the entropy of the
      codes; as large as the level where all are equally frequent.
    `collision_rate`: the share of items whose codes of meaning another item
      has as well.
    `unique_prefix_rate`: different tuples of codes of meaning, per item.
    `worst_collision`: the most items that have the same codes of meaning.
  """
  usage, perplexity = [], []
  for level in range(ids.num_meaning_levels):
    counts = np.bincount(ids.codes[:, level], minlength=ids.level_sizes[level])
    shares = counts[counts > 0] / len(ids.codes)
    usage.append(float((counts > 0).mean()))
    perplexity.append(float(np.exp(-(shares * np.log(shares)).sum())))
  _, counts = group_rows(ids.codes[:, : ids.num_meaning_levels])
  return {
    'usage': usage,
    'perplexity': perplexity,
    'collision_rate': float(counts[counts > 1].sum() / len(ids.codes)),
    'unique_prefix_rate': len(counts) / len(ids.codes),
    'worst_collision': int(counts.max()),
  }


def format_report(report: dict[str, Any]) -> str:
  """Lays a report out for the terminal.

  Args:
    report: As `report` returns it.

  Returns:
    Some lines of text, the last without a line break.
  """
  lines = ['level   usage  perplexity']
  for level, (usage, perplexity) in enumerate(
    zip(report['usage'], report['perplexity'], strict=True), start=1
  ):
    lines.append(f'{level:>5}  {usage:>6.1%}  {perplexity:>10.1f}')
  lines += [
    f'items whose codes another item has too   {report["collision_rate"]:.1%}',
    'different codes per item                 '
    f'{report["unique_prefix_rate"]:.1%}',
    f'most items with the same codes           {report["worst_collision"]}',
  ]
  return '\n'.join(lines)


def group_rows(
  codes: Int[np.ndarray, 'items _'],
) -> tuple[Int[np.ndarray, ' items'], Int[np.ndarray, ' groups']]:
  """Finds which items share all their codes.

  Args:
    codes: One row per item, none of them negative.

  Returns:
    The group of each row, and the number of rows in each group. Groups are in
    lexicographic order of their codes.
  """
  # One number per row sorts ten times faster than the row.
  keys, num_keys = np.zeros(len(codes), np.int64), 1
  for code in codes.T:
    size = int(code.max(initial=0)) + 1
    if num_keys * size > np.iinfo(np.int64).max:
      keys = np.unique(keys, return_inverse=True)[1]
      num_keys = len(keys)
    keys = keys * size + code
    num_keys *= size
  _, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
  return group, counts
