"""Requests to stop: SIGTERM, Ctrl-C, and SIGHUP of a closed terminal."""

import contextlib
import os
import signal
import threading
from typing import Any

from tiger_jax.errors import Preempted

# The line break ends the line of a progress bar.
_LEAVING = b'\nerror: asked to stop; run the same command to go on\n'


def exit_on_signals() -> None:
  """Makes SIGTERM and SIGHUP end the process at once, as `Preempted` would.

  This is for stages that have nothing to save: an incomplete stage runs again.
  A `StopSignal` replaces these handlers while it is open.
  """

  def leave(unused_number: int, unused_frame: Any) -> None:
    # The signal may have interrupted `print`, and the terminal may be gone.
    with contextlib.suppress(OSError):
      os.write(2, _LEAVING)
    os._exit(Preempted.exit_code)

  if threading.current_thread() is threading.main_thread():
    for number in _stop_signals():
      signal.signal(number, leave)


class StopSignal:
  """Notes SIGTERM, SIGHUP and Ctrl-C in `received`, so that a loop can save.

  A second Ctrl-C has its usual effect. A second SIGTERM, which some schedulers
  send, changes nothing.
  """

  def __init__(self):
    """Notes nothing yet."""
    self.received = False
    self._before: dict[int, Any] = {}

  def __enter__(self) -> 'StopSignal':
    """Installs the handlers; only the main thread may, others go without."""
    if threading.current_thread() is threading.main_thread():
      for number in (*_stop_signals(), signal.SIGINT):
        before = signal.signal(number, self._note)
        # None stands for a handler of C, which Python cannot put back.
        self._before[number] = signal.SIG_DFL if before is None else before
    return self

  def __exit__(self, *unused: Any) -> None:
    """Puts the handlers from before back."""
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def _note(self, number: int, unused_frame: Any) -> None:
    self.received = True
    if number == signal.SIGINT:
      signal.signal(number, self._before[number])


def _stop_signals() -> list[int]:
  # Under `nohup`, SIGHUP is ignored, and must stay so.
  hang_up = signal.getsignal(signal.SIGHUP)
  return [
    signal.SIGTERM,
    *([] if hang_up == signal.SIG_IGN else [signal.SIGHUP]),
  ]
