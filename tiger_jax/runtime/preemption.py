"""Handles stop signals: SIGTERM, Ctrl-C, and SIGHUP of a closed terminal."""

import contextlib
import os
import signal
import threading
from typing import Any

from tiger_jax.errors import Preempted

# The first line break ends the line of a progress bar.
_MESSAGE = '\nstopped by {}; run the same command to resume\n'


def exit_on_signals() -> None:
  """Makes SIGTERM and SIGHUP end the process with the code of `Preempted`.

  This is for stages without checkpoints: an incomplete stage runs again. A
  `StopSignal` replaces these handlers while it is open.
  """

  def exit_now(number: int, unused_frame: Any) -> None:
    # A `print` would fail if the signal interrupted another `print`. A write
    # fails if the terminal is closed.
    with contextlib.suppress(OSError):
      os.write(2, _MESSAGE.format(signal.Signals(number).name).encode())
    os._exit(Preempted.exit_code)

  if threading.current_thread() is threading.main_thread():
    for number in _stop_signals():
      signal.signal(number, exit_now)


class StopSignal:
  """A context manager that records SIGTERM, SIGHUP and Ctrl-C.

  A second Ctrl-C has its usual effect. A second SIGTERM, which some schedulers
  send, has no effect.

  Attributes:
    name: The name of the first signal, such as `SIGTERM`; '' before a signal.
  """

  def __init__(self):
    """Creates the context manager; no signal has been received."""
    self.name = ''
    self._before: dict[int, Any] = {}

  @property
  def received(self) -> bool:
    """Whether a signal was received, so that the state should be saved."""
    return bool(self.name)

  def __enter__(self) -> 'StopSignal':
    """Installs the handlers; does nothing outside the main thread."""
    if threading.current_thread() is threading.main_thread():
      for number in (*_stop_signals(), signal.SIGINT):
        before = signal.signal(number, self._receive)
        # None means that C code set the handler. Python cannot restore it.
        self._before[number] = signal.SIG_DFL if before is None else before
    return self

  def __exit__(self, *unused: Any) -> None:
    """Restores the earlier handlers."""
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def _receive(self, number: int, unused_frame: Any) -> None:
    self.name = self.name or signal.Signals(number).name
    if number == signal.SIGINT:
      signal.signal(number, self._before[number])


def _stop_signals() -> list[int]:
  # `nohup` makes a process ignore SIGHUP, and this must not change.
  hang_up = signal.getsignal(signal.SIGHUP)
  return [
    signal.SIGTERM,
    *([] if hang_up == signal.SIG_IGN else [signal.SIGHUP]),
  ]
