"""Prints lines without raising errors, so that training continues.

A pipe or a terminal may be closed, and a stream may be None.
"""

import contextlib
import sys
from typing import Any

from tiger_jax.errors import one_line

# A closed stream, or one that cannot encode the text, raises a ValueError.
_ERRORS = (OSError, ValueError, AttributeError)


class SafeStream:
  """Writes text to a stream, and drops the text if the write fails."""

  def __init__(self, stream: Any):
    """Wraps a text stream, or None."""
    self._stream = stream

  def write(self, text: str) -> None:
    """Writes text."""
    with contextlib.suppress(*_ERRORS):
      self._stream.write(text)

  def flush(self) -> None:
    """Flushes the stream."""
    with contextlib.suppress(*_ERRORS):
      self._stream.flush()

  def isatty(self) -> bool:
    """Returns whether the stream is a terminal."""
    with contextlib.suppress(*_ERRORS):
      return self._stream.isatty()
    return False

  def __getattr__(self, name: str) -> Any:
    """Returns any other attribute of the stream."""
    return getattr(self._stream, name)


def say(text: str) -> None:
  """Prints a line to stdout."""
  print(text, file=SafeStream(sys.stdout), flush=True)


def warn(text: str) -> None:
  """Prints a line to stderr."""
  print(one_line(text), file=SafeStream(sys.stderr), flush=True)
