"""One checkpoint: a folder of arrays, as Orbax writes them, and JSON.

It is written aside and gets its name when all of it is on disk, so that a
folder with a name is whole. Data, never code.
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from tiger_jax.training import manifest


def write(folder: Path, step: int, state: Any, contents: Any) -> None:
  """Writes a checkpoint.

  Args:
    folder: What it will be called.
    step: Steps done.
    state: A pytree of host arrays.
    contents: JSON.
  """
  partial = folder.with_name(f'{folder.name}.partial')
  with _orbax() as orbax:
    orbax.save(partial / 'state', args=ocp.args.StandardSave(state))
  (partial / 'meta.json').write_text(json.dumps(contents, indent=1))
  manifest.write(partial, {'step': step})
  partial.rename(folder)
  manifest.sync(folder.parent)


def read_contents(folder: Path, step: int) -> Any:
  """Checks every byte of a checkpoint, and returns its JSON.

  Raises:
    ValueError: It is not what was written.
  """
  manifest.check(folder, {'step': step})
  return json.loads((folder / 'meta.json').read_bytes())


def read_state(folder: Path, like: Any) -> Any:
  """Returns the arrays of a checkpoint that has been checked.

  Args:
    folder: Where.
    like: A pytree of arrays, or of their shapes and types, as was written.
  """
  empty = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
  with _orbax() as orbax:
    return orbax.restore(folder / 'state', args=ocp.args.StandardRestore(empty))


def describe(state: Any) -> dict[str, str]:
  """Returns type and shape of every array, by its path."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): (
      f'{x.dtype}{list(x.shape)}'
    )
    for path, x in jax.tree.leaves_with_path(state)
  }


def differences(found: Any, expected: Any, path: str = '') -> list[str]:
  """Returns where two JSON values differ, and how, a line each."""
  if isinstance(found, dict) and isinstance(expected, dict):
    return [
      line
      for key in sorted(found.keys() | expected.keys())
      for line in differences(
        found.get(key, 'absent'),
        expected.get(key, 'absent'),
        f'{path}.{key}'.removeprefix('.'),
      )
    ]
  if found == expected:
    return []
  return [f'{path} is {found}, expected {expected}']


def _orbax() -> ocp.Checkpointer:
  """Returns what reads and writes arrays, for this process alone.

  Not asynchronously: where that cannot write, its threads wait for minutes.
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
