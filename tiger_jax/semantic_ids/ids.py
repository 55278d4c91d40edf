"""Semantic IDs: unique tuples of codes, kept on disk, and how good they are."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
from typing import Any
import zipfile

from jaxtyping import Int, Int32
import numpy as np

from tiger_jax.errors import DataError

_CODES_FILE = 'semantic_ids.npz'
_ABOUT_FILE = 'semantic_ids.json'


@dataclasses.dataclass(frozen=True, eq=False)
class SemanticIds:
  """The Semantic ID of every item of a catalogue.

  Attributes:
    codes: One row per item, no two alike.
    level_sizes: How many codes each level has. The last level numbers the
      items that share all other codes.
    num_meaning_levels: Levels that carry meaning: all but the last.
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
    if {codes.shape[1], self.num_meaning_levels + 1} != {len(sizes)}:
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
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, codes=self.codes)
    about = {
      'level_sizes': self.level_sizes,
      'num_meaning_levels': self.num_meaning_levels,
      'provenance': self.provenance,
      'sha256': hashlib.sha256(buffer.getvalue()).hexdigest(),
    }
    _write(folder / _CODES_FILE, buffer.getvalue())
    _write(folder / _ABOUT_FILE, json.dumps(about, indent=2).encode())

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
    folder = pathlib.Path(folder)
    try:
      about = json.loads((folder / _ABOUT_FILE).read_bytes())
      data = (folder / _CODES_FILE).read_bytes()
      if hashlib.sha256(data).hexdigest() != about['sha256']:
        raise ValueError(f'{_CODES_FILE} is not the file that was saved')
      with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        codes = arrays['codes']
      return cls(
        codes=codes,
        level_sizes=tuple(about['level_sizes']),
        num_meaning_levels=about['num_meaning_levels'],
        provenance=about['provenance'],
      )
    except FileNotFoundError as e:
      raise DataError(
        f'{e.filename} is missing: run the semantic_ids stage'
      ) from e
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as e:
      raise DataError(
        f'the Semantic IDs in {folder} are damaged ({e}): delete the folder '
        'and run the semantic_ids stage again'
      ) from e


def resolve_collisions(
  codes: Int[np.ndarray, 'items l'],
  codebook_size: int,
  provenance: dict[str, str | int | float],
) -> SemanticIds:
  """Appends the code that tells items with the same codes apart.

  Section 3.1 of the paper: items that share all codes are numbered 0, 1, 2,
  ... in the order of their rows; an item that shares them with no other
  gets 0.

  Args:
    codes: What a quantizer gave every item.
    codebook_size: Codes at each of its levels.
    provenance: How the codes were made.

  Returns:
    Unique IDs, with one level more.

  Raises:
    DataError: There are no items, or a code is outside of the codebook.
  """
  group, counts = group_rows(codes)
  order = np.argsort(group, kind='stable')
  starts = np.cumsum(counts) - counts
  number = np.empty(len(codes), np.int64)
  number[order] = np.arange(len(codes)) - starts[group[order]]
  # Departs from the paper: it sets 256 codes aside, however few are needed.
  worst = int(counts.max(initial=0))
  return SemanticIds(
    codes=np.concatenate([codes, number[:, None]], axis=1).astype(np.int32),
    level_sizes=(codebook_size,) * codes.shape[1] + (worst,),
    num_meaning_levels=codes.shape[1],
    provenance=provenance,
  )


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
    codes: One row per item.

  Returns:
    The group of each row, and the number of rows in each group.
  """
  _, group, counts = np.unique(
    codes, axis=0, return_inverse=True, return_counts=True
  )
  return group.reshape(-1), counts


def _write(path: pathlib.Path, data: bytes) -> None:
  aside = path.with_suffix(path.suffix + '.tmp')
  aside.write_bytes(data)
  aside.replace(path)
