"""Handles output, Ctrl-C and the exit of a command-line program."""

import errno
import io
import locale
import os
import select
import signal
import sys
import traceback
from typing import Any

from tiger_jax.errors import DataError, Preempted, TigerError, one_line
from tiger_jax.storage import os_errors

_INTERRUPTED = 130
# The errors of a full disk, a full quota, and a file at its size limit. `end`
# ignores all other errors, such as a closed pipe.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Descriptor(io.RawIOBase):
  """A file descriptor whose writes never raise.

  Data that cannot be written are dropped, because printing must never stop
  training. `error` is the error of the last failed write.
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
  """A text stream that never raises; unencodable characters become `?`.

  It has the encoding and the buffering of the stream that it replaces.
  """

  def __init__(self, number: int, replaced: Any):
    self.descriptor = _Descriptor(number)
    super().__init__(
      io.BufferedWriter(self.descriptor),
      encoding=replaced.encoding if replaced else locale.getencoding(),
      errors='replace',
      line_buffering=replaced.line_buffering if replaced else True,
      write_through=replaced.write_through if replaced else False,
    )


def begin() -> None:
  """Prepares the process of a command-line program.

  This function replaces `sys.stdout` and `sys.stderr` with streams that never
  raise, so libraries must not call it. Until `raise_interrupts` is called,
  Ctrl-C ends the process without a traceback.
  """
  # If a standard stream is closed, the next file that is opened gets the
  # descriptor of this stream, and libraries would print into the file.
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
  """Flushes the output at the end of a run.

  If the output is incomplete, because the disk or the output file is full, the
  process exits with an error.
  """
  stream = sys.stdout
  if isinstance(stream, _Stream):
    stream.flush()
    _end_at_interrupt()  # Ctrl-C may come during Python's shutdown.
    error = stream.descriptor.error
    if error and error.errno in _FULL:
      print(f'error: the output is incomplete: {error}', file=sys.stderr)
      sys.exit(DataError.exit_code)


def fail(error: BaseException, at_once: bool) -> None:
  """Exits with a one-line message and an exit code, if users can cause `error`.

  Args:
    error: The error that ended the run.
    at_once: Whether to skip Python's shutdown. In a run with several processes,
      the shutdown could wait for processes that wait for this one. If True, the
      process also exits after an unexpected error, with a traceback. If False,
      the function returns after an unexpected error.
  """
  if isinstance(error, TigerError):
    # A stopped run has saved its state: this is not an error.
    kind = '' if isinstance(error, Preempted) else 'error: '
    message, code = one_line(f'{kind}{error}'), error.exit_code
  elif isinstance(error, OSError):
    reason, remedy = os_errors.explain(error)
    message = one_line(f'error: {reason}; {remedy}')
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
  # A background job of a shell ignores Ctrl-C and must continue to ignore it.
  if signal.getsignal(signal.SIGINT) in (
    signal.default_int_handler, signal.SIG_DFL,
  ):  # fmt: skip
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(unused_number: int, unused_frame: Any) -> None:
  os.write(2, b'stopped\n')
  os._exit(_INTERRUPTED)
