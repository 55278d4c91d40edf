"""Writes and reads one checkpoint: a folder of Orbax arrays and JSON.

A checkpoint is written to a folder with a temporary name. It gets its final
name when all of it is on disk and was read back, so a folder with a final name
is complete. A checkpoint holds data, never code. It consists of

    meta.json       what is trained, the metrics, types and shapes of arrays
    params/         the parameters
    state/          the rest of the state: step and optimizer
    manifest.json   size and sha256 of all other files

Evaluation and serving read `meta.json` and `params/` alone.
"""

from collections import Counter
from collections.abc import Iterator
import contextlib
import json
import math
from pathlib import Path
import re
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from tiger_jax import __version__
from tiger_jax.checkpoints import manifest, skipped
from tiger_jax.errors import (
  CheckpointError,
  DamagedError,
  NotFiniteError,
  UsageError,
)
from tiger_jax.storage import files, os_errors

# The format of a checkpoint. Those without a format number have format 0.
# Since format 2, `skipped` in `meta` is a list of ranges instead of a number.
# Since format 3, `params` is in a folder of its own instead of in `state/`.
FORMAT = 3
# What a read checks and uses: the files whose names begin so.
ALL = ('',)
META = ('meta.json',)
PARAMS = ('meta.json', 'params/')
# Orbax reads paths with these signs as patterns or URLs, and those with bytes
# that are not UTF-8 not at all; then it writes nothing.
_SIGNS = re.compile(r'[][\\*?:\n\udc80-\udcff]')
# The number of stored values that are read concurrently.
_READS = 32


def write(
  folder: Path,
  step: int,
  state: dict[str, Any],
  contents: dict[str, Any],
  *,
  last: bool,
) -> None:
  """Writes a checkpoint and reads it back.

  Args:
    folder: Its final name.
    step: Steps done.
    state: Pytrees of host arrays by name. `params` gets its own folder.
    contents: JSON, as `read_contents` returns it.
    last: Whether it is the last checkpoint of a run, which is also restored.

  Raises:
    ValueError: The data on disk differ from the data to write.
    OSError: It cannot be written.
  """
  partial = folder.with_name(f'{folder.name}.partial')
  # Fails if the name is taken by a link, which Orbax would follow.
  partial.mkdir()
  with plain(partial) as path, _orbax() as orbax:
    for name, part in _parts(state).items():
      orbax.save(path / name, args=ocp.args.StandardSave(part))
  header = {'format': FORMAT, 'version': __version__}
  text = json.dumps(header | contents, indent=1)
  (partial / 'meta.json').write_text(text)
  manifest.write(partial, {'step': step})
  manifest.check(partial, {'step': step})
  for name, part in _parts(state).items():
    _check_stored(partial / name, part)
  if last:
    _check_restored(partial, state)
  partial.rename(folder)
  files.sync(folder.parent)


def read_contents(
  folder: Path, step: int, part: tuple[str, ...] = ALL
) -> dict[str, Any]:
  """Checks a part of a checkpoint, and returns its JSON.

  Args:
    folder: The folder of the checkpoint.
    step: Its step.
    part: `ALL`, `META` or `PARAMS`. Other files may be damaged or missing, and
      `arrays` of the JSON is limited to this part. Before format 3, `PARAMS`
      checks all files.

  Raises:
    ValueError: It is not what was written.
    CheckpointError: A newer version wrote it.
  """
  manifest.check(folder, {'step': step}, part)
  contents = files.read_json(folder / 'meta.json')
  if not isinstance(contents, dict):
    raise ValueError('meta.json is not an object')
  number = contents.get('format', 0)
  if type(number) is not int or number < 0:
    raise ValueError(f'format of meta.json is {number!r:.40}')
  if number > FORMAT:
    raise CheckpointError(
      f'{folder} has format {number}, written by tiger_jax '
      f'{str(contents.get("version")):.40}: tiger_jax {__version__} reads '
      f'formats up to {FORMAT}, install the newer version'
    )
  if number < 3 and part == PARAMS:
    manifest.check(folder, {'step': step})
  for name, kind in (
    ('about', dict), ('arrays', dict), ('meta', dict),
    ('metrics', dict | None),
  ):  # fmt: skip
    if not isinstance(contents.get(name), kind):
      raise ValueError(f'{name} of meta.json is {contents.get(name)!r:.40}')
  contents['arrays'] = {
    name: x
    for name, x in contents['arrays'].items()
    if f'{name}/'.startswith(part)
  }
  skipped.from_json(contents['meta'].get('skipped', []))
  for name, value in (contents['metrics'] or {}).items():
    if not isinstance(value, int | float):
      raise ValueError(f'metric {name} of meta.json is {value!r:.40}')
  return contents


def read_state(
  folder: Path, like: dict[str, Any], number: int = FORMAT
) -> dict[str, Any]:
  """Returns arrays of a checkpoint that has been checked.

  Args:
    folder: The folder of the checkpoint.
    like: Pytrees of arrays, or of their shapes and types, by name. Names that
      it lacks are not read.
    number: The format of the checkpoint.
  """
  empty = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
  with plain(folder) as path, _orbax() as orbax:

    def restore(name: str, part: dict[str, Any] | None) -> dict[str, Any]:
      return orbax.restore(path / name, args=ocp.args.StandardRestore(part))

    if number >= 3:
      state = {}
      for name, part in _parts(empty).items():
        state |= restore(name, part)
    elif like.keys() != {'params'}:
      state = restore('state', empty)
    else:
      # Orbax reads a part of a folder without a word about missing arrays.
      whole = jax.tree.leaves_with_path(restore('state', None))
      arrays = {_name(x): np.asarray(array) for x, array in whole}
      state = jax.tree.map_with_path(lambda x, _: arrays[_name(x)], like)
  if describe(state) != describe(like):
    raise ValueError('its arrays are not those that meta.json lists')
  return state


def describe(state: Any) -> dict[str, str]:
  """Returns the type and shape of every array, by its path in the pytree."""
  return {
    _name(path): f'{x.dtype}{list(x.shape)}'
    for path, x in jax.tree.leaves_with_path(state)
  }


def require_finite(state: Any, step: int) -> None:
  """Raises NotFiniteError if an array of a state is not finite."""
  finite = np.asarray(_finite(jax.tree.leaves(state)))
  if not finite.all():
    path, _ = jax.tree.leaves_with_path(state)[int(np.argmin(finite))]
    raise NotFiniteError(f'{_name(path)} is not finite after step {step}', step)


@jax.jit
def _finite(leaves: list[jax.Array]) -> jax.Array:
  return jnp.stack([jnp.isfinite(x).all() for x in leaves])


@contextlib.contextmanager
def plain(folder: Path) -> Iterator[Path]:
  """Yields a path to a folder that Orbax can read, if need be through a link.

  Raises:
    UsageError: The link cannot be made, or Orbax cannot read its path either.
  """
  sign = _SIGNS.search(str(folder))
  if not sign:
    yield folder
    return
  remedy = (
    f'{folder} has the character {sign[0]!r}: choose another --workdir, or set '
    'TMPDIR to a writable folder whose path consists of letters and digits'
  )
  try:
    temporary = tempfile.TemporaryDirectory(prefix='tiger_jax_')
  except OSError as error:
    raise UsageError(remedy) from error
  with temporary as parent:
    if _SIGNS.search(parent):
      raise UsageError(remedy)
    link = Path(parent, 'checkpoint')
    link.symlink_to(folder, target_is_directory=True)
    yield link


@contextlib.contextmanager
def explained(
  folder: Path, problem: str, damaged: Path | None = None
) -> Iterator[None]:
  """Turns any error into one that names the folder, the reason and a remedy.

  Args:
    folder: The folder of the checkpoints.
    problem: What has failed.
    damaged: The checkpoint that is damaged if the block raises, which becomes
      a `DamagedError`. Without it, the block raises a `CheckpointError`.
  """
  try:
    yield
  except (CheckpointError, UsageError):
    raise
  # Orbax passes on any error of the file system or of the format library.
  except Exception as error:
    reason, remedy = os_errors.explain(error)
    message = f'{folder}: {problem} ({reason}); '
    if damaged is None:
      raise CheckpointError(message + remedy) from error
    message += f'remove {damaged} to use an earlier checkpoint'
    raise DamagedError(message) from error


def check_path(folder: Path) -> None:
  """Refuses a path at which no checkpoint could be saved, see `plain`."""
  with plain(folder):
    pass


def _parts(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
  """Splits a state by the folders that hold it."""
  parts: dict[str, dict[str, Any]] = {}
  for name, tree in state.items():
    folder = 'params' if name == 'params' else 'state'
    parts.setdefault(folder, {})[name] = tree
  return parts


def _name(path: Any, separator: str = '/') -> str:
  """Returns the name of an array by its path in a pytree."""
  return jax.tree_util.keystr(path, simple=True, separator=separator)


def _check_stored(folder: Path, state: Any) -> None:
  """Checks that every array can be read from a folder of Orbax.

  All stored values are read but not decoded, because decoding (`read_state`)
  takes ten times as long.
  """
  # Orbax reads the names of the arrays from this file.
  files.read_json(folder / '_METADATA')
  headers: dict[str, Any] = {}
  num_chunks: Counter[str] = Counter()
  with plain(folder) as path:
    base = {'driver': 'file', 'path': f'{path}/'}
    store = ts.KvStore.open({'driver': 'ocdbt', 'base': base}).result()
    keys = store.list().result()
    for start in range(0, len(keys), _READS):
      # Concurrent reads are faster, and their number bounds the memory.
      reads = [(key, store.read(key)) for key in keys[start : start + _READS]]
      for key, read in reads:
        name, _, chunk = key.decode().rpartition('/')
        value = read.result().value
        # TensorStore returns no value if the file is missing.
        if not value:
          raise ValueError(f'a part of {name} is gone')
        if chunk == '.zarray':
          headers[name] = json.loads(value)
        else:
          num_chunks[name] += 1
  for path, x in jax.tree.leaves_with_path(state):
    name = _name(path, '.')
    if name not in headers:
      raise ValueError(f'{name} was not written')
    shape, chunks = headers[name]['shape'], headers[name]['chunks']
    written = f'{np.dtype(headers[name]["dtype"])}{shape}'
    if written != f'{x.dtype}{list(x.shape)}':
      raise ValueError(f'{name} was written as {written}')
    grid = [
      -(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)
    ]
    if num_chunks[name] != math.prod(grid):
      raise ValueError(f'a part of {name} was not written')


def _check_restored(folder: Path, state: Any) -> None:
  """Restores a checkpoint, as evaluation does, and compares all arrays."""
  restored = read_state(folder, state)
  for (path, x), y in zip(
    jax.tree.leaves_with_path(state), jax.tree.leaves(restored), strict=True
  ):
    if x.dtype != y.dtype or x.tobytes() != y.tobytes():
      raise ValueError(f'{_name(path)} is read back with other values')


def _orbax() -> ocp.Checkpointer:
  """Returns a checkpointer for this process alone.

  It is synchronous: if an asynchronous one cannot write, its threads wait for
  minutes.
  """
  this = jax.process_index()
  options = ocp.options.MultiprocessingOptions(
    primary_host=this,
    active_processes={this},
    barrier_sync_key_prefix=f'process_{this}',
  )
  return ocp.Checkpointer(
    ocp.StandardCheckpointHandler(multiprocessing_options=options),
    multiprocessing_options=options,
  )
