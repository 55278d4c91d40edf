"""The data of a finished run that its report shows."""

import dataclasses
from typing import Any

from tiger_jax.config import Config
from tiger_jax.config.commands import quote
from tiger_jax.config.config_dict import holds_path
from tiger_jax.data.dataset import Dataset
from tiger_jax.evaluation.users import UserResults
from tiger_jax.semantic_ids.ids import SemanticIds


@dataclasses.dataclass(frozen=True, eq=False)
class FinishedRun:
  """A run whose evaluation is finished, as read from its folder.

  Attributes:
    workdir: The folder, as the user typed it.
    config: The settings of the run.
    results: The content of `results.json`.
    dataset: The items and the histories.
    ids: The Semantic IDs; None for a model that needs none.
    users: The results of the test users; None if an older version evaluated
      the run.
    log: The lines of `metrics.jsonl` of the training; empty if it is missing.
    goodput: The lines of `goodput.jsonl` of the training; empty if it is
      missing.
  """

  workdir: str
  config: Config
  results: dict[str, Any]
  dataset: Dataset
  ids: SemanticIds | None
  users: UserResults | None
  log: list[dict[str, Any]]
  goodput: list[dict[str, Any]]

  @property
  def path_flags(self) -> list[str]:
    """The flags for the paths of the run, with PATH in place of each path."""
    flags = []
    for name, value in flat(self.config).items():
      if holds_path(name, value):
        # A whole path would reveal details of the machine.
        path = 'PATH' if isinstance(value, str) else ('PATH',) * len(value)
        flags.append(quote(f'--config.{name}={path}'.replace(' ', '')))
    return flags

  @property
  def command(self) -> str:
    """The command that repeats the run; '' if it is not known."""
    command = str(self.results.get('command', ''))
    return ' '.join([command, *self.path_flags]) if command else ''

  @property
  def evaluate_command(self) -> str:
    """The command that evaluates the run again; '' if it is not known."""
    flags = f'{quote(f"--workdir={self.workdir}")} --mode=evaluate'
    return f'{self.command} {flags}' if self.command else ''


def flat(section: Any, prefix: str = '') -> dict[str, Any]:
  """Returns the fields of a config by their paths, such as `train.steps`."""
  values = {}
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    if dataclasses.is_dataclass(value):
      values |= flat(value, f'{prefix}{field.name}.')
    else:
      values[prefix + field.name] = value
  return values
