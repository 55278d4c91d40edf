"""Compares a checkpoint with the run that reads it, across versions."""

import json
from typing import Any

from tiger_jax import __version__
from tiger_jax.config.recorded import former_values

_ABSENT = 'absent'


def differences(found: Any, expected: Any, path: str) -> list[str]:
  """Returns one line for each difference between two JSON values."""
  if isinstance(found, dict) and isinstance(expected, dict):
    return [
      line
      for key in sorted(found.keys() | expected.keys())
      for line in differences(
        found.get(key, _ABSENT), expected.get(key, _ABSENT), f'{path}.{key}'
      )
    ]
  if found == expected:
    return []
  return [f'{path} is {_shown(found)}, expected {_shown(expected)}']


def _shown(value: Any) -> str:
  return f'{value!s:.60}'


def config_differences(
  found: dict[str, Any], expected: dict[str, Any], writer: str
) -> list[str]:
  """Returns one line for each difference between a checkpoint and a run.

  A config field that a checkpoint lacks counts as its former value, see
  `recorded_config.former_values`. Old checkpoints therefore stay usable when a
  field is added.

  Args:
    found: What the checkpoint trains: sections of the config by name, and
      other JSON.
    expected: The same for this run.
    writer: The version that wrote the checkpoint, such as `tiger_jax 0.1.0`.
  """
  defaults = json.loads(json.dumps(former_values()))
  return [
    line
    for key in sorted(found.keys() | expected.keys())
    for line in _field_differences(
      found.get(key, _ABSENT),
      expected.get(key, _ABSENT),
      defaults.get(key),
      f'of.{key}',
      writer,
    )
  ]


def _field_differences(
  found: Any, expected: Any, defaults: Any, path: str, writer: str
) -> list[str]:
  if not all(isinstance(x, dict) for x in (found, expected, defaults)):
    return differences(found, expected, path)
  lines = []
  for key in sorted(found.keys() | expected.keys()):
    if key in found and key not in expected and key not in defaults:
      lines.append(
        f'{path}.{key} is {_shown(found[key])}, a field that tiger_jax '
        f'{__version__} does not have (written by {writer})'
      )
      continue
    default = defaults.get(key, _ABSENT)
    lines += _field_differences(
      found.get(key, default),
      expected.get(key, default),
      default,
      f'{path}.{key}',
      writer,
    )
  return lines
