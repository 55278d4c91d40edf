"""Checks that a checkpoint belongs to the run that reads it."""

import json
from pathlib import Path
from typing import Any

from tiger_jax import __version__
from tiger_jax.config.recorded import former_values
from tiger_jax.errors import CheckpointError

_ABSENT = 'absent'


def require_same_run(
  folder: Path,
  contents: dict[str, Any],
  identity: dict[str, Any],
  arrays: dict[str, str],
) -> None:
  """Raises CheckpointError if a checkpoint belongs to another run.

  A config field that is absent from the checkpoint was added later. It gets its
  former value, with which the code behaves as it did before the field was added
  (`config.recorded.former_values`). Old checkpoints therefore stay usable.

  Args:
    folder: The folder of the checkpoint, for the message.
    contents: The `meta.json` of the checkpoint. `about` is the identity of its
      run: sections of the config by name, and other JSON.
    identity: The identity of this run.
    arrays: Types and shapes of the arrays of this run, by path.
  """
  writer = 'an earlier version'
  if 'version' in contents:
    writer = f'tiger_jax {str(contents["version"]):.40}'
  former = json.loads(json.dumps(former_values()))
  saved = contents['about']
  lines = []
  for key in sorted(saved.keys() | identity.keys()):
    values = saved.get(key, _ABSENT), identity.get(key, _ABSENT)
    lines += _differences(key, *values, former.get(key), writer)
  lines += _differences('arrays', contents['arrays'], arrays, None, writer)
  if lines:
    raise CheckpointError(
      f'{folder} belongs to another run: {"; ".join(lines[:10])}; choose '
      'another --workdir, or the config that the checkpoint was made with'
    )


def _differences(
  path: str, saved: Any, expected: Any, former: Any, writer: str
) -> list[str]:
  """Compares two JSON values.

  Args:
    path: The name of the values, for the message.
    saved: The value in the checkpoint.
    expected: The value in this run.
    former: The former values of the fields, if `path` is a section of the
      config.
    writer: The version that wrote the checkpoint, for the message.

  Returns:
    One line per difference.
  """
  if not (isinstance(saved, dict) and isinstance(expected, dict)):
    if saved == expected:
      return []
    return [f'{path} is {saved!s:.60}, expected {expected!s:.60}']
  lines = []
  for key in sorted(saved.keys() | expected.keys()):
    key_path, default = f'{path}.{key}', _ABSENT
    if isinstance(former, dict):
      if key not in expected and key not in former:
        lines.append(
          f'{key_path} is {saved[key]!s:.60}, a field that tiger_jax '
          f'{__version__} does not have (written by {writer})'
        )
        continue
      default = former.get(key, _ABSENT)
    lines += _differences(
      key_path,
      saved.get(key, default),
      expected.get(key, default),
      default,
      writer,
    )
  return lines
