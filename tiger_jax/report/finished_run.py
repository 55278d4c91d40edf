"""The data of a finished run that its report shows."""

import dataclasses
from typing import Any

from tiger_jax.config import Config
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
  def command(self) -> str:
    """The command that repeats the run; '' if it is not known."""
    return str(self.results.get('command', ''))

  def command_for(self, mode: str) -> str:
    """Returns the command of a mode in the folder of the run."""
    command = self.command or 'python -m tiger_jax.main --config=CONFIG'
    return f'{command} --workdir={self.workdir} --mode={mode}'
