"""Writes and reads one checkpoint: a folder of Orbax arrays and JSON.

A checkpoint is written to a temporary folder. The folder gets its final name
after all data were written and read back. A folder with a final name is
therefore complete. A checkpoint holds data, never code:

    meta.json       the identity of the run, metrics, types and shapes of arrays
    params/         the parameters
    state/          the step and the state of the optimizer
    manifest.json   the size and sha256 of all other files

Evaluation and serving read only `meta.json` and `params/`.
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

# The current format. A checkpoint without a format number has format 0.
# Since format 2, `skipped` in `meta` is a list of ranges instead of a number.
# Since format 3, `params` has its own folder and is no longer in `state/`.
FORMAT = 3
# The parts that `read_contents` can check, as prefixes of file names.
ALL = ('',)
META = ('meta.json',)
PARAMS = ('meta.json', 'params/')
# Orbax treats a path with one of these characters as a pattern or a URL. It
# cannot use a path whose bytes are not UTF-8 (surrogates in Python).
_UNSUPPORTED = re.compile(r'[][\\*?:\n\udc80-\udcff]')
# The number of stored values that are read concurrently.
_NUM_READS = 32


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
    folder: The final path of the checkpoint.
    step: The number of steps done.
    state: Pytrees of host arrays by name.
    contents: JSON for `meta.json`, as `read_contents` returns it.
    last: Whether this is the last checkpoint of a run, which is also restored
      and compared with `state`.

  Raises:
    ValueError: The data on disk differ from the data to write.
    OSError: The checkpoint cannot be written.
  """
  partial = folder.with_name(f'{folder.name}.partial')
  # Fails if a link has this name. Orbax would follow the link.
  partial.mkdir()
  with orbax_path(partial) as path, _orbax() as orbax:
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
  """Checks a part of a checkpoint, and returns the content of `meta.json`.

  Args:
    folder: The folder of the checkpoint.
    step: The step of the checkpoint.
    part: `ALL`, `META` or `PARAMS`. Files outside the part may be damaged or
      missing. The returned `arrays` lists only arrays of the part. In a
      checkpoint before format 3, `PARAMS` checks all files.

  Raises:
    ValueError: The checkpoint is damaged.
    CheckpointError: A newer version of tiger_jax wrote the checkpoint.
  """
  manifest.check(folder, {'step': step}, part)
  contents = files.read_json(folder / 'meta.json')
  if not isinstance(contents, dict):
    raise ValueError('meta.json is not an object')
  version = contents.get('format', 0)
  if type(version) is not int or version < 0:
    raise ValueError(f'format of meta.json is {version!r:.40}')
  if version > FORMAT:
    raise CheckpointError(
      f'{folder} has format {version}, written by tiger_jax '
      f'{str(contents.get("version")):.40}, but tiger_jax {__version__} reads '
      f'formats up to {FORMAT}: install the newer version'
    )
  if version < 3 and part == PARAMS:
    manifest.check(folder, {'step': step})
  for name, expected_type in (
    ('about', dict), ('arrays', dict), ('meta', dict),
    ('metrics', dict | None),
  ):  # fmt: skip
    if not isinstance(contents.get(name), expected_type):
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
  folder: Path, like: dict[str, Any], format_version: int = FORMAT
) -> dict[str, Any]:
  """Returns arrays of a checkpoint that `read_contents` has checked.

  Args:
    folder: The folder of the checkpoint.
    like: The arrays to read: pytrees of arrays, or of their shapes and types,
      by name.
    format_version: The format of the checkpoint.
  """
  empty = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
  with orbax_path(folder) as path, _orbax() as orbax:

    def restore(name: str, part: dict[str, Any] | None) -> dict[str, Any]:
      return orbax.restore(path / name, args=ocp.args.StandardRestore(part))

    if format_version >= 3:
      state = {}
      for name, part in _parts(empty).items():
        state |= restore(name, part)
    elif like.keys() != {'params'}:
      state = restore('state', empty)
    else:
      # Orbax would not report a missing array in a partial read.
      leaves = jax.tree.leaves_with_path(restore('state', None))
      arrays = {_name(x): np.asarray(array) for x, array in leaves}
      state = jax.tree.map_with_path(lambda x, _: arrays[_name(x)], like)
  if describe(state) != describe(like):
    raise ValueError('the arrays differ from the list in meta.json')
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
def orbax_path(folder: Path) -> Iterator[Path]:
  """Yields a path to a folder that Orbax can use.

  The path is a temporary link if the path of the folder has characters that
  Orbax does not support.

  Raises:
    UsageError: The link cannot be made, or Orbax does not support its path.
  """
  match = _UNSUPPORTED.search(str(folder))
  if not match:
    yield folder
    return
  message = (
    f'{folder} has the character {match[0]!r}, which Orbax does not support: '
    'choose another --workdir, or set TMPDIR to a writable folder whose path '
    'consists of letters and digits'
  )
  try:
    temporary = tempfile.TemporaryDirectory(prefix='tiger_jax_')
  except OSError as error:
    raise UsageError(message) from error
  with temporary as parent:
    if _UNSUPPORTED.search(parent):
      raise UsageError(message)
    link = Path(parent, 'checkpoint')
    link.symlink_to(folder, target_is_directory=True)
    yield link


@contextlib.contextmanager
def explain_errors(
  folder: Path, problem: str, damaged: Path | None = None
) -> Iterator[None]:
  """Turns any error into one that names the folder, the reason and a remedy.

  Args:
    folder: The folder of the checkpoints.
    problem: The operation that failed, for the message.
    damaged: The checkpoint that the message reports as damaged. If it is given,
      the error becomes a `DamagedError`, otherwise a `CheckpointError`.
  """
  try:
    yield
  except (CheckpointError, UsageError):
    raise
  # Orbax may raise any error of the file system or of TensorStore.
  except Exception as error:
    reason, remedy = os_errors.explain(error)
    message = f'{folder}: {problem} ({reason}); '
    if damaged is None:
      raise CheckpointError(message + remedy) from error
    message += f'remove {damaged} to use an earlier checkpoint'
    raise DamagedError(message) from error


def check_path(folder: Path) -> None:
  """Raises UsageError if Orbax cannot save at a path, see `orbax_path`."""
  with orbax_path(folder):
    pass


def _parts(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
  """Splits a state into the parts that are stored in separate folders."""
  parts: dict[str, dict[str, Any]] = {}
  for name, tree in state.items():
    folder = 'params' if name == 'params' else 'state'
    parts.setdefault(folder, {})[name] = tree
  return parts


def _name(path: Any, separator: str = '/') -> str:
  """Returns the name of an array from its path in a pytree."""
  return jax.tree_util.keystr(path, simple=True, separator=separator)


def _check_stored(folder: Path, state: Any) -> None:
  """Checks that every array in a folder of Orbax can be read.

  Reads all stored values but does not decode them. Decoding (`read_state`)
  takes ten times as long.
  """
  # Orbax reads the names of the arrays from this file.
  files.read_json(folder / '_METADATA')
  headers: dict[str, Any] = {}
  num_chunks: Counter[str] = Counter()
  with orbax_path(folder) as path:
    base = {'driver': 'file', 'path': f'{path}/'}
    store = ts.KvStore.open({'driver': 'ocdbt', 'base': base}).result()
    keys = store.list().result()
    for start in range(0, len(keys), _NUM_READS):
      # Concurrent reads are faster. Their number is limited to save memory.
      part = keys[start : start + _NUM_READS]
      reads = [(key, store.read(key)) for key in part]
      for key, read in reads:
        name, _, chunk = key.decode().rpartition('/')
        value = read.result().value
        # TensorStore returns no value if the file is missing.
        if not value:
          raise ValueError(f'a part of {name} is missing')
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
    expected = f'{x.dtype}{list(x.shape)}'
    if written != expected:
      raise ValueError(f'{name} was written as {written}, not as {expected}')
    grid = [
      -(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)
    ]
    if num_chunks[name] != math.prod(grid):
      raise ValueError(f'a part of {name} was not written')


def _check_restored(folder: Path, state: Any) -> None:
  """Restores a checkpoint, and compares all arrays with `state`."""
  restored = read_state(folder, state)
  for (path, x), y in zip(
    jax.tree.leaves_with_path(state), jax.tree.leaves(restored), strict=True
  ):
    if x.dtype != y.dtype or x.tobytes() != y.tobytes():
      raise ValueError(f'{_name(path)} is read back with different values')


def _orbax() -> ocp.Checkpointer:
  """Returns a checkpointer that does not wait for other processes.

  The checkpointer is synchronous, because the threads of an asynchronous
  checkpointer wait for minutes if they cannot write.
  """
  process = jax.process_index()
  options = ocp.options.MultiprocessingOptions(
    primary_host=process,
    active_processes={process},
    barrier_sync_key_prefix=f'process_{process}',
  )
  return ocp.Checkpointer(
    ocp.StandardCheckpointHandler(multiprocessing_options=options),
    multiprocessing_options=options,
  )
