"""Writes command lines of the program."""

from collections.abc import Mapping
import shlex
from typing import Any

from tiger_jax.config import config_dict


def repeat(config: str | None, overrides: Mapping[str, Any]) -> str:
  """Returns the command to repeat a run, without overrides of paths."""
  kept = {
    path: value
    for path, value in overrides.items()
    if not config_dict.holds_path(path, value)
  }
  return text(config, kept)


def text(
  config: str | None, overrides: Mapping[str, Any], workdir: str | None = None
) -> str:
  """Returns the command of a run.

  Args:
    config: The value of --config.
    overrides: Maps fields, such as `train.steps`, to their values.
    workdir: The value of --workdir; None to omit it.
  """
  arguments = [f'--config={config}']
  if workdir:
    arguments.append(f'--workdir={workdir}')
  for path, value in overrides.items():
    shown = str(value).lower() if isinstance(value, bool) else value
    arguments.append(f'--config.{path}={shown}')
  return f'python -m tiger_jax.main {" ".join(map(quote, arguments))}'


def quote(argument: str) -> str:
  """Quotes an argument for a shell, with double quotes if they suffice."""
  if shlex.quote(argument) == argument or set('"$`\\!') & set(argument):
    return shlex.quote(argument)
  return f'"{argument}"'
