"""Errors a user can cause, each with the exit code it ends the program with.

Every message is one line: what is wrong, where, and what to do about it.
"""

import re

# Characters that reverse or embed text of another direction, and can hide text.
_DIRECTIONS = '\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069'
CONTROLS = re.compile(f'[\x00-\x1f\x7f-\x9f{_DIRECTIONS}]')
_LONGEST = 1500


def one_line(text: str) -> str:
  """Returns text on one line, without control characters, and cut if long."""
  # Line breaks and tabs are control characters too, and separate words.
  line = CONTROLS.sub('', ' '.join(text.split()))
  return line if len(line) <= _LONGEST else f'{line[:_LONGEST]}...'


class TigerError(Exception):
  """The base of all expected errors; `main` prints it and exits."""

  exit_code = 1


class UsageError(TigerError):
  """A wrong flag, config field, or request."""

  exit_code = 2


class DataError(TigerError):
  """A file that is missing, damaged, or not what it should hold."""

  exit_code = 3


class CheckpointError(TigerError):
  """A checkpoint that is missing or does not fit this run."""

  exit_code = 4


class DamagedError(CheckpointError):
  """A checkpoint differs from what was written."""


class NumbersError(TigerError):
  """A loss, a parameter or an input that is not finite."""

  exit_code = 5


class NotFiniteError(NumbersError):
  """A step computed something that is not finite.

  Attributes:
    step: The step whose batch caused it, counted from 1. If a parameter is not
      finite at the start of a step, the step before it is the cause.
  """

  def __init__(self, message: str, step: int):
    """Takes what to say, and the step it is about."""
    super().__init__(message)
    self.step = step


class PeerError(TigerError):
  """Another process of the run is gone; start all of them again to go on."""

  exit_code = 6


class Preempted(TigerError):
  """The run was asked to stop and saved its state; start it again to go on."""

  exit_code = 42
