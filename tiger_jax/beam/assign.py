"""Implements `assign`, which turns item vectors into Semantic IDs."""

from collections.abc import Sequence
import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

from jaxtyping import Int
import numpy as np

from tiger_jax.beam import folders, jobs, vectors
from tiger_jax.data import counts
from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import DataError, NumbersError, UsageError
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.tokenizer import Tokenizer
from tiger_jax.storage import files
from tiger_jax.storage.artifacts import read_artifact
from tiger_jax.storage.record import Artifact

# The number of vectors of a task. It is a multiple of the batch size of
# `item_batches.map_items`, so the batches and the codes equal those of a single
# machine.
_NUM_VECTORS = 2**16
_BATCH = 4096
# The least share of known items with the codes of the run. It is below 1,
# because some ways to resolve collisions change the codes of items.
_LEAST_SHARE = 0.5


def assign(
  workdir: Path, vectors_folder: Path, out: Path, flags: Sequence[str]
) -> tuple[int, int]:
  """Writes the Semantic IDs of all items in a folder of vectors.

  Items of the run keep their IDs. New items get IDs in the order of the
  vectors, as in `Tokenizer.assign`. The output has the files of
  `SemanticIds.save`, and `ids.json`, which lists the item id of each row.

  Args:
    workdir: The folder of a run with finished Semantic IDs.
    vectors_folder: The vectors, see `vectors`.
    out: The folder to write, which must not exist.
    flags: The flags of the Beam runner.

  Returns:
    The number of items, and how many of them are new.

  Raises:
    UsageError: The folder exists, or there are too few IDs.
    DataError: A file is missing or damaged, or the tokenizer is from another
      dataset or encoder.
    NumbersError: A vector is not finite.
    PeerError: A worker died.
  """
  folders.refuse_existing(out)
  stage = _stage(workdir, 'semantic_ids')
  tokenizer = Tokenizer.load(stage.folder)
  existing = SemanticIds.load(stage.folder)
  tokenizer.require_own(existing)
  known = Dataset.load(_stage(workdir, 'data').folder).items.rows
  ids, embeddings = vectors.read(vectors_folder)
  if embeddings.shape[1] != tokenizer.dim:
    raise DataError(
      f'the vectors in {vectors_folder} have width {embeddings.shape[1]}, but '
      f'the tokenizer of {workdir} was fitted to width {tokenizer.dim}: embed '
      'the items with the encoder of the run'
    )
  rows = np.asarray([known.get(x, -1) for x in ids])
  if len(existing.codes) != len(known):
    raise DataError(
      f'{workdir} has {len(known)} items and {len(existing.codes)} Semantic '
      'IDs: run --mode=semantic_ids with this --workdir again'
    )
  if not (rows >= 0).any():
    raise _foreign(
      workdir, f'the run has none of the items {counts.first_ids(ids)}'
    )
  with folders.replaced(out.absolute()) as (result, work):
    path = str((vectors_folder / vectors.VECTORS).absolute())
    parts, _ = jobs.run(
      flags, work, functools.partial(_codes, path, str(work)),
      _ranges(len(ids)), side=tokenizer.to_arrays(),
    )  # fmt: skip
    codes = np.concatenate([np.load(part['path']) for part in parts])
    _require_same_codes(workdir, existing, codes, rows)
    new = np.flatnonzero(rows < 0)
    all_ids = existing
    if len(new):
      all_ids = tokenizer.resolve(
        codes[new], embeddings[new], existing.provenance, existing
      )
    rows[new] = len(existing.codes) + np.arange(len(new))
    dataclasses.replace(all_ids, codes=all_ids.codes[rows]).save(result)
    files.write(result / vectors.IDS, json.dumps(ids).encode())
    return len(ids), len(new)


def _stage(workdir: Path, name: str) -> Artifact:
  if not workdir.is_dir():
    raise UsageError(
      f'there is no folder {workdir}: name the folder of a run in --workdir'
    )
  artifact = read_artifact(workdir, name)
  if artifact is None:
    raise DataError(
      f'{workdir} has no finished stage {name!r}: run --mode=semantic_ids with '
      'this --workdir first'
    )
  return artifact


def _ranges(num_items: int) -> list[tuple[int, int]]:
  """Divides the rows into ranges.

  If there are several ranges, each has at least `_BATCH` rows.
  """
  starts = list(range(0, num_items, _NUM_VECTORS))
  if len(starts) > 1 and num_items - starts[-1] < _BATCH:
    starts.pop()
  return list(zip(starts, [*starts[1:], num_items], strict=True))


def _codes(
  path: str, work: str, part: tuple[int, int], arrays: Any
) -> jobs.Result:
  """Writes the codes of a range of vectors. `arrays` defines the tokenizer."""
  vectors_of_part = np.load(path, mmap_mode='r')[slice(*part)]
  finite = np.isfinite(vectors_of_part).all(axis=1)
  if not finite.all():
    raise NumbersError(
      f'the embedding of item row {part[0] + np.argmin(finite)} is not finite: '
      'embed the items again'
    )
  codes = Tokenizer.from_arrays(*arrays).codes(np.asarray(vectors_of_part))
  written = Path(work) / f'{jobs.unique("codes")}.npy'
  np.save(written, codes)
  return {'path': str(written)}


def _require_same_codes(
  workdir: Path,
  ids: SemanticIds,
  codes: Int[np.ndarray, 'items l'],
  rows: Int[np.ndarray, ' items'],
) -> None:
  """Raises DataError if most known items have other codes than in the run."""
  known = rows >= 0
  same = (ids.prefixes[rows[known]] == codes[known]).all(axis=1)
  if same.mean() < _LEAST_SHARE:
    raise _foreign(
      workdir,
      f'{int((~same).sum()):,} of {int(known.sum()):,} items have other codes '
      'in the run',
    )


def _foreign(workdir: Path, reason: str) -> DataError:
  return DataError(
    f'the tokenizer of {workdir} is from another dataset or encoder '
    f'({reason}): name the run that the vectors belong to'
  )
