"""The terminal: streams that never raise, Ctrl-C, and how the program ends."""

import errno
import io
import locale
import os
import select
import signal
import sys
import traceback
from typing import Any

from tiger_jax.errors import DataError, Preempted, TigerError

_INTERRUPTED = 130
# Errors of a file that cannot take more, unlike a reader that has left.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Descriptor(io.RawIOBase):
  """A file descriptor that can always be written to.

  What cannot be written is dropped: printing must never stop a training.

  Attributes:
    error: The last error of a write, None without.
  """

  def __init__(self, number: int):
    super().__init__()
    self._number = number
    self.error: OSError | None = None

  def fileno(self) -> int:
    return self._number

  def isatty(self) -> bool:
    return os.isatty(self._number)

  def writable(self) -> bool:
    return True

  def write(self, data: Any) -> int:
    while True:
      try:
        return os.write(self._number, data)
      except BlockingIOError:
        select.select([], [self._number], [])
      except OSError as error:
        self.error = error
        return len(data)


class _Stream(io.TextIOWrapper):
  """Text for a descriptor; what its encoding lacks becomes a `?`."""

  def __init__(self, number: int, before: Any):
    self.descriptor = _Descriptor(number)
    super().__init__(
      io.BufferedWriter(self.descriptor),
      encoding=before.encoding if before else locale.getencoding(),
      errors='replace',
      line_buffering=before.line_buffering if before else True,
      write_through=before.write_through if before else False,
    )


def begin() -> None:
  """Prepares the process: for a program that starts, not for a library.

  Replaces `sys.stdout` and `sys.stderr` by streams that never raise, and lets
  Ctrl-C end the process without a traceback until `raise_interrupts`.
  """
  # A file that is opened later must not take the place of a closed stream, or
  # libraries would print into it.
  while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
    pass
  os.close(number)
  sys.stdout = _Stream(1, sys.stdout)
  sys.stderr = _Stream(2, sys.stderr)
  _end_at_interrupt()


def raise_interrupts() -> None:
  """Lets Ctrl-C raise KeyboardInterrupt again."""
  if signal.getsignal(signal.SIGINT) is _interrupt:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def end() -> None:
  """Ends a program that succeeded, unless its output is incomplete."""
  stream = sys.stdout
  if isinstance(stream, _Stream):
    stream.flush()
    _end_at_interrupt()  # Python's shutdown takes a moment.
    lost = stream.descriptor.error
    if lost and lost.errno in _FULL:
      print(f'error: the output is incomplete: {lost}', file=sys.stderr)
      sys.exit(DataError.exit_code)


def fail(error: BaseException, at_once: bool) -> None:
  """Ends a program that failed in an expected way, and returns otherwise.

  Args:
    error: An expected one becomes one line and its exit code; of any other one
      the traceback is needed.
    at_once: End without Python's shutdown, in which one of several processes
      would wait for the others, who may wait for this one.
  """
  if isinstance(error, TigerError):
    message, code = ' '.join(f'error: {error}'.split()), error.exit_code
  elif isinstance(error, OSError):
    message = f'error: {error}: repair that, and run the same command again'
    code = DataError.exit_code
  elif isinstance(error, KeyboardInterrupt):
    message, code = 'stopped; run the same command to continue', _INTERRUPTED
  elif at_once and isinstance(error, Exception):
    message, code = ''.join(traceback.format_exception(error)), 1
  else:
    return
  for stream in (sys.stdout, sys.stderr):
    if stream:
      stream.flush()
  print(message, file=sys.stderr, flush=True)
  if at_once and code != Preempted.exit_code:
    os._exit(code)
  sys.exit(code)


def _end_at_interrupt() -> None:
  # A background job of a shell ignores Ctrl-C, and must continue to.
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(unused_number: int, unused_frame: Any) -> None:
  os.write(2, b'stopped\n')
  os._exit(_INTERRUPTED)
