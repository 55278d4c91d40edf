"""Exports the search of a model as programs that run without tiger_jax.

Each program is the search for one platform, batch size, history length and
number of items. The parameters and the catalog are arguments of the programs.
The programs therefore work with new parameters, and with a changed catalog of
the same layout. A process that runs the programs needs JAX, but not Flax.

An export is a folder with these files:

    export.json                      the manifest, written last
    arrays.safetensors               the parameters and the catalog
    items.json                       the item id of every row
    programs/cpu-b1-t10-k10.bin      a program, see `export_programs`
"""

from collections.abc import Iterable, Sequence
import dataclasses
import datetime
import hashlib
import itertools
import json
from pathlib import Path
import shutil
from typing import Any

import jax
from jax import export
import jax.numpy as jnp
import jaxlib.version
import numpy as np
import safetensors.numpy

from tiger_jax.config.config_dict import as_path
from tiger_jax.errors import UsageError
from tiger_jax.interfaces import Batch
from tiger_jax.serving import arguments
from tiger_jax.serving.model import named_arrays
from tiger_jax.serving.recommender import Recommender
from tiger_jax.serving.snapshot import Snapshot
from tiger_jax.storage import files

PLATFORMS = ('cpu', 'cuda', 'tpu')
BATCH_SIZES = (1, 8, 32)
KS = (10,)
MANIFEST = 'export.json'
ARRAYS = 'arrays.safetensors'
ITEMS = 'items.json'
PROGRAMS = 'programs'
# The version of the format of an export.
_FORMAT = 1
# JAX guarantees that a program loads with every jaxlib that was built up to six
# months after the jaxlib that exported it.
_GUARANTEED = datetime.timedelta(days=180)
# An installed jaxlib does not report its build date. These dates are from the
# wheels. An unlisted version was built after the previous listed one.
_JAXLIB_BUILT = {
  (0, 10, 2): datetime.date(2026, 6, 17),
  (0, 12, 0, 1): datetime.date(2026, 10, 20),
}


def export_programs(
  recommender: Recommender,
  folder: str | Path,
  *,
  platforms: Iterable[str] = PLATFORMS,
  batch_sizes: Iterable[int] = BATCH_SIZES,
  ks: Iterable[int] = KS,
) -> None:
  """Exports the search of a recommender to a folder.

  The folder gets one program for each combination of a platform, a batch size,
  a history length of the run (`train.length_buckets`) and a number of items.
  Exporting a program for an accelerator does not need the accelerator.

  The arguments of a program are the histories `[b, t]`, which are item rows
  padded with -1 on the right, and the arrays in the order of
  `manifest['arguments']`. A program returns the item rows `[b, k]`, their
  scores `[b, k]`, and the number `[b]` of leading items that are proven (see
  `Beams.exact_k`). If there are fewer than k items, the remaining rows are -1.
  The programs treat all users as unknown, as in `Recommender.recommend`.

  Args:
    recommender: The recommender.
    folder: A folder that is new or empty.
    platforms: Elements of `PLATFORMS`.
    batch_sizes: The numbers of histories in a batch.
    ks: The numbers of items to recommend.

  Raises:
    UsageError: The folder is not empty, or an argument is out of range.
    DataError: The file system failed.
  """
  folder = as_path(folder, 'folder')
  snapshot = recommender.snapshot
  platforms = _platforms(platforms)
  batch_sizes = _sizes(batch_sizes, 'batch_sizes')
  ks = _sizes(ks, 'ks')
  for k in ks:
    limit = snapshot.retriever.max_requests(k)
    if batch_sizes[-1] > limit:
      raise UsageError(
        f'a batch of {batch_sizes[-1]} histories with {k} items each needs too '
        f'much memory: choose batch sizes of at most {limit}'
      )
  with _writing(folder):
    if folder.exists() and any(folder.iterdir()):
      raise UsageError(
        f'{folder} is not empty: choose another folder, or remove it first'
      )
    (folder / PROGRAMS).mkdir(parents=True, exist_ok=True)
    try:
      _write(folder, snapshot, platforms, batch_sizes, ks)
    except BaseException:
      # The folder was new or empty, so this export made everything in it.
      shutil.rmtree(folder, ignore_errors=True)
      raise


def replace_arrays(recommender: Recommender, folder: str | Path) -> None:
  """Replaces the parameters and the catalog of an export.

  The programs do not change. A process that already runs the programs can use
  the new arrays without recompiling.

  The arrays are replaced first, and then the manifest. A process that reads
  both between these steps finds a sha256 mismatch, and must read both again.

  Args:
    recommender: A recommender of a model with the same settings, whose catalog
      has the same layout. `Recommender.add_items` and `remove_items` keep the
      layout while the catalog has spare capacity.
    folder: The folder of the export.

  Raises:
    UsageError: The programs do not fit the model or the catalog.
    DataError: The manifest is missing or damaged, or the file system failed.
  """
  folder = as_path(folder, 'folder')
  snapshot = recommender.snapshot
  arrays = _arrays(snapshot)
  with files.explained(f'{folder} is not an export', 'export the model again'):
    manifest = files.read_json(folder / MANIFEST)
    fits = (manifest['settings'], manifest['arguments']) == (
      _settings(snapshot),
      _arguments(arrays),
    )
    digests = dict(manifest['sha256'])
  if not fits:
    raise UsageError(
      f'the programs in {folder} are for other settings of the model, or for '
      'another layout of the catalog: export the model to a new folder'
    )
  with _writing(folder):
    digests |= _save_arrays(folder, snapshot, arrays)
    files.write_json(
      folder / MANIFEST, manifest | _versions(snapshot) | {'sha256': digests}
    )


def guaranteed_until(version: Sequence[Any]) -> datetime.date:
  """Returns the date until which every new jaxlib loads the program.

  A later jaxlib may load the program too, but JAX does not guarantee it.

  Args:
    version: The version of the jaxlib that exports the program.
  """
  known = [
    built for x, built in _JAXLIB_BUILT.items() if x <= tuple(version[: len(x)])
  ]
  return max(known) + _GUARANTEED


def _write(
  folder: Path,
  snapshot: Snapshot,
  platforms: Sequence[str],
  batch_sizes: Sequence[int],
  ks: Sequence[int],
) -> None:
  """Writes the programs, the arrays and the manifest."""
  arrays = _arrays(snapshot)
  specs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays.values()]
  lengths = snapshot.model.session.config.train.length_buckets
  programs, digests = [], {}
  for k in ks:
    program = _program(snapshot, k)
    for batch, length, platform in itertools.product(
      batch_sizes, lengths, platforms
    ):
      history = jax.ShapeDtypeStruct((batch, length), np.int32)
      exported = export.export(program, platforms=(platform,))(history, *specs)
      name = f'{PROGRAMS}/{platform}-b{batch}-t{length}-k{k}.bin'
      digests[name] = _save(folder, name, exported.serialize())
      programs.append({
        'file': name,
        'platform': platform,
        'batch': batch,
        'history': length,
        'k': k,
      })  # fmt: skip
  digests |= _save_arrays(folder, snapshot, arrays)
  jaxlib_version = jaxlib.version.__version_info__
  manifest = {
    'format': _FORMAT,
    **_versions(snapshot),
    'created': datetime.datetime.now(datetime.UTC).date().isoformat(),
    'jax': jax.__version__,
    'jaxlib': jaxlib.version.__version__,
    'guaranteed_until': guaranteed_until(jaxlib_version).isoformat(),
    'level_sizes': snapshot.catalog.level_sizes,
    'settings': _settings(snapshot),
    'programs': programs,
    'arguments': _arguments(arrays),
    'sha256': digests,
  }
  files.write_json(folder / MANIFEST, manifest)


def _program(snapshot: Snapshot, k: int) -> Any:
  """Returns the function to export: the search for k items.

  The function maps histories `[b, t]` and the leaves of `_tree` to item rows
  `[b, k]`, scores `[b, k]` and the number of proven items `[b]`.
  """
  structure = jax.tree.structure(_tree(snapshot))

  @jax.jit
  def search(history: Any, *leaves: Any) -> Any:
    tree = jax.tree.unflatten(structure, leaves)
    no_row = jnp.full(len(history), -1, jnp.int32)
    retriever = snapshot.retriever.with_catalog(tree['catalog'])
    beams = retriever.with_mixture(tree['mixture']).search(
      tree['params'], Batch(history, no_row, no_row), k
    )
    return (
      beams.items[:, :k],
      beams.scores[:, :k],
      jnp.minimum(beams.exact_k, k),
    )

  return search


def _tree(snapshot: Snapshot) -> dict[str, Any]:
  """Returns the arguments of the programs after the histories."""
  return {
    'params': snapshot.model.params,
    'catalog': snapshot.catalog,
    'mixture': snapshot.retriever.mixture,
  }


def _arrays(snapshot: Snapshot) -> dict[str, np.ndarray]:
  """Returns the leaves of `_tree` on the host, by their paths, in order."""
  return {
    # safetensors would save the bytes of a transposed array in the wrong order.
    name: np.asarray(array, order='C')
    for name, array in named_arrays(_tree(snapshot)).items()
  }


def _settings(snapshot: Snapshot) -> dict[str, Any]:
  """Returns the settings that the programs are compiled for, as JSON."""
  model = snapshot.retriever.model
  settings = {
    'network': type(model).__name__,
    'model': dataclasses.asdict(model.config),
    'layout': snapshot.catalog.layout._asdict(),
    'num_beams': snapshot.retriever.num_beams,
  }
  return json.loads(json.dumps(settings))


def _versions(snapshot: Snapshot) -> dict[str, Any]:
  """Returns the versions in the manifest."""
  return {
    'model': snapshot.model.version,
    'catalog': snapshot.catalog_version,
  }


def _arguments(arrays: dict[str, np.ndarray]) -> list[dict[str, Any]]:
  """Returns the names, shapes and types of arrays, as JSON."""
  return [
    {'name': name, 'shape': list(x.shape), 'dtype': x.dtype.name}
    for name, x in arrays.items()
  ]


def _save_arrays(
  folder: Path, snapshot: Snapshot, arrays: dict[str, np.ndarray]
) -> dict[str, str]:
  """Writes the files that change with the catalog; returns their sha256."""
  return {
    ARRAYS: _save(folder, ARRAYS, safetensors.numpy.save(arrays)),
    ITEMS: _save(folder, ITEMS, json.dumps(snapshot.ids).encode()),
  }


def _save(folder: Path, name: str, data: bytes | bytearray) -> str:
  """Writes a file, and returns its sha256."""
  files.write(folder / name, bytes(data))
  return hashlib.sha256(data).hexdigest()


def _writing(folder: Path) -> Any:
  """Returns a context manager that explains an error of the file system."""
  return files.explained(
    f'the export to {folder} failed', 'choose another folder', (OSError,)
  )


def _platforms(values: Iterable[str]) -> list[str]:
  values = arguments.listed(values, 'platforms', 'platforms')
  platforms = list(dict.fromkeys(values))
  for value in platforms:
    if value not in PLATFORMS:
      raise UsageError(
        f'platforms contains {arguments.shown(value)}: choose from '
        f'{", ".join(PLATFORMS)}'
      )
  if not platforms:
    raise UsageError(f'platforms is empty: choose from {", ".join(PLATFORMS)}')
  return platforms


def _sizes(values: Iterable[Any], where: str) -> list[int]:
  """Checks a list of integers, and returns the distinct ones in order."""
  sizes = {
    arguments.whole_number(value, f'{where}[{place}]', 1)
    for place, value in enumerate(arguments.listed(values, where, 'integers'))
  }
  if not sizes:
    raise UsageError(f'{where} is empty: pass at least one integer')
  return sorted(sizes)
