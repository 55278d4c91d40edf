"""Implements `assign`, which turns item vectors into Semantic IDs."""

from collections.abc import Sequence
import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
import numpy as np

from tiger_jax.beam import folders, jobs, vectors
from tiger_jax.data import counts
from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import DataError, NumbersError, UsageError
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.tokenizer import Tokenizer
from tiger_jax.stages import embedding
from tiger_jax.storage import artifacts, files, record

# The number of vectors of a task. It is a multiple of the batch size of
# `item_batches.map_items`, so the batches and the codes equal those of a single
# machine.
_NUM_VECTORS = 2**16
_BATCH = 4096
# The number of items whose vectors are compared with those of the run, and the
# largest difference, in units of the largest number.
_NUM_COMPARED = 2**16
_TOLERANCE = 1e-3


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
    CheckpointError: The stages of the run do not belong to its model.
    DataError: A file is missing or damaged, or the tokenizer is from another
      dataset or encoder.
    NumbersError: A vector is not finite.
    PeerError: A worker died.
  """
  folders.refuse_existing(out)
  stage = _stage(workdir, 'semantic_ids')
  tokenizer = Tokenizer.load(stage)
  existing = SemanticIds.load(stage)
  tokenizer.require_own(existing)
  known = Dataset.load(_stage(workdir, 'data')).items.rows
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
  _require_same_vectors(workdir, stage, embeddings, rows)
  with folders.replaced(out.absolute()) as (result, work):
    path = str((vectors_folder / vectors.VECTORS).absolute())
    parts, _ = jobs.run(
      flags, work, functools.partial(_codes, path, str(work)),
      _ranges(len(ids)), side=tokenizer.to_arrays(),
    )  # fmt: skip
    codes = np.concatenate([np.load(part['path']) for part in parts])
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


def _stage(workdir: Path, name: str) -> Path:
  """Returns the folder of a stage: the one of the trained model, if any."""
  if not workdir.is_dir():
    raise UsageError(
      f'there is no folder {workdir}: name the folder of a run in --workdir'
    )
  if trained := artifacts.read_artifact(workdir, 'train'):
    return artifacts.input_folder(trained, name)
  artifact = artifacts.read_artifact(workdir, name)
  if artifact is None:
    raise DataError(
      f'{workdir} has no finished stage {name!r}: run --mode=semantic_ids with '
      'this --workdir first'
    )
  return artifact.folder


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


def _require_same_vectors(
  workdir: Path,
  stage: Path,
  vectors_of_items: Float[np.ndarray, 'items dim'],
  rows: Int[np.ndarray, ' items'],
) -> None:
  """Raises DataError if the known items have other vectors than in the run.

  If the run no longer has the vectors of its Semantic IDs, nothing is compared.
  """
  made_from = record.read(stage).metadata.get('embedding')
  if not isinstance(made_from, str):
    return
  artifact = artifacts.find_artifact(workdir, 'embedding', made_from)
  if artifact is None:
    return
  known = np.flatnonzero(rows >= 0)
  known = known[:: -(-len(known) // _NUM_COMPARED)]
  own = embedding.load(artifact.folder)[rows[known]].astype(np.float32)
  difference = np.abs(vectors_of_items[known] - own).max(axis=1)
  # Comparisons with NaN are false. The workers report NaN.
  num_other = int((difference > _TOLERANCE * np.abs(own).max()).sum())
  if num_other:
    raise _foreign(
      workdir,
      f'{num_other:,} of {len(known):,} items have other vectors in the run',
    )


def _foreign(workdir: Path, reason: str) -> DataError:
  return DataError(
    f'the tokenizer of {workdir} is from another dataset or encoder '
    f'({reason}): name the run that the vectors belong to'
  )
