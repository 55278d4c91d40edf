"""The expected errors, and the exit code of each.

Every message is one line: what is wrong, where, and what to do about it.
"""

import re

# Unicode marks that change the direction of text. They can hide text.
_DIRECTIONS = '\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069'
CONTROLS = re.compile(f'[\x00-\x1f\x7f-\x9f{_DIRECTIONS}]')
_LONGEST = 1500


def one_line(text: str) -> str:
  """Returns text as one line without control characters, shortened if long."""
  # Split first, because line breaks and tabs are control characters too.
  line = CONTROLS.sub('', ' '.join(text.split()))
  return line if len(line) <= _LONGEST else f'{line[:_LONGEST]}...'


class TigerError(Exception):
  """The base class of expected errors. `main` prints the error and exits."""

  exit_code = 1


class UsageError(TigerError):
  """A flag, a config field or a request is wrong."""

  exit_code = 2


class DataError(TigerError):
  """A file is missing or damaged, or has the wrong content."""

  exit_code = 3


class CheckpointError(TigerError):
  """A checkpoint is missing or does not fit this run."""

  exit_code = 4


class DamagedError(CheckpointError):
  """A checkpoint differs from what was written."""


class NumbersError(TigerError):
  """A loss, a parameter or an input is not finite."""

  exit_code = 5


class NotFiniteError(NumbersError):
  """A training step computed a value that is not finite.

  Attributes:
    step: The step whose batch caused the error, counted from 1. If a parameter
      is not finite at the start of a step, the previous step is the cause.
  """

  def __init__(self, message: str, step: int):
    """Creates the error."""
    super().__init__(message)
    self.step = step


class PeerError(TigerError):
  """Another process of the run has ended. Restart all processes to resume."""

  exit_code = 6


class Preempted(TigerError):
  """The run saved its state and stopped, as requested. Restart it to resume."""

  exit_code = 42
