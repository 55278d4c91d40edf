"""The result of one check of `--mode=doctor`."""

from typing import NamedTuple

from tiger_jax.errors import TigerError

OK, NOTE, PROBLEM = 'ok', 'note', 'problem'


class Finding(NamedTuple):
  """The result of one check.

  Attributes:
    level: `OK`, `NOTE` (nothing to repair) or `PROBLEM`.
    subject: The thing that was checked.
    text: The finding, and the remedy if it is a problem.
    kind: For a problem: the error whose exit code the program returns.
  """

  level: str
  subject: str
  text: str
  kind: type[TigerError] = TigerError


def ok(subject: str, text: str) -> Finding:
  """Returns a finding without a problem."""
  return Finding(OK, subject, text)


def note(subject: str, text: str) -> Finding:
  """Returns a finding that the user may want to know."""
  return Finding(NOTE, subject, text)


def problem(subject: str, text: str, kind: type[TigerError]) -> Finding:
  """Returns a finding that the user must act on."""
  return Finding(PROBLEM, subject, text, kind)
