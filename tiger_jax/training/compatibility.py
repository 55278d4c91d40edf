"""Whether a checkpoint is of what is trained, also across versions."""

import json
from typing import Any

from tiger_jax import __version__
from tiger_jax.recorded_config import former_values

_ABSENT = 'absent'


def differences(found: Any, expected: Any, path: str) -> list[str]:
  """Returns where two JSON values differ, and how, a line each."""
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
  return [f'{path} is {found}, expected {expected}']


def config_differences(
  found: dict[str, Any], expected: dict[str, Any], writer: str
) -> list[str]:
  """Returns where what two checkpoints are of differs, a line each.

  A field of the config that a checkpoint lacks counts as the value that older
  versions behaved as, so that a new field does not make it useless.

  Args:
    found: What a checkpoint is of: sections of the config by their name, and
      other JSON.
    expected: The same of this run.
    writer: What wrote the checkpoint, such as `tiger_jax 0.1.0`.
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
        f'{path}.{key} is {found[key]}, a field that tiger_jax {__version__} '
        f'does not have (written by {writer})'
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
