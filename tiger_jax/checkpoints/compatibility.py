"""Compares a checkpoint with the run that reads it, across versions."""

import json
from pathlib import Path
from typing import Any

from tiger_jax import __version__
from tiger_jax.config.recorded import former_values
from tiger_jax.errors import CheckpointError

_ABSENT = 'absent'


def refuse_other(
  folder: Path,
  contents: dict[str, Any],
  about: dict[str, Any],
  arrays: dict[str, str],
) -> None:
  """Raises CheckpointError if a checkpoint is not of what is trained here.

  A config field that a checkpoint lacks counts as its former value, see
  `config.recorded.former_values`. Old checkpoints therefore stay usable when a
  field is added.

  Args:
    folder: The folder of the checkpoint, for the message.
    contents: The `meta.json` of the checkpoint. Its `about` tells what it
      trains: sections of the config by name, and other JSON.
    about: The same for this run.
    arrays: Types and shapes of the arrays of this run, by path.
  """
  writer = 'an earlier version'
  if 'version' in contents:
    writer = f'tiger_jax {str(contents["version"]):.40}'
  former = json.loads(json.dumps(former_values()))
  found = contents['about']
  differing = []
  for key in sorted(found.keys() | about.keys()):
    values = found.get(key, _ABSENT), about.get(key, _ABSENT)
    differing += _differences(f'of.{key}', *values, former.get(key), writer)
  differing += _differences('arrays', contents['arrays'], arrays, None, writer)
  if differing:
    raise CheckpointError(
      f'{folder} is of another run: {"; ".join(differing[:10])}; choose '
      'another --workdir, or the config that this was made with'
    )


def _differences(
  path: str, found: Any, expected: Any, former: Any, writer: str
) -> list[str]:
  """Compares two JSON values.

  Args:
    path: Names them in the lines.
    found: Of the checkpoint.
    expected: Of this run.
    former: If this is a section of the config, the former values of its fields.
    writer: The version that wrote the checkpoint.
  """
  if not (isinstance(found, dict) and isinstance(expected, dict)):
    if found == expected:
      return []
    return [f'{path} is {found!s:.60}, expected {expected!s:.60}']
  lines = []
  for key in sorted(found.keys() | expected.keys()):
    place, default = f'{path}.{key}', _ABSENT
    if isinstance(former, dict):
      if key not in expected and key not in former:
        lines.append(
          f'{place} is {found[key]!s:.60}, a field that tiger_jax '
          f'{__version__} does not have (written by {writer})'
        )
        continue
      default = former.get(key, _ABSENT)
    lines += _differences(
      place,
      found.get(key, default),
      expected.get(key, default),
      default,
      writer,
    )
  return lines
