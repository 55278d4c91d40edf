"""A polite request to stop."""

import os
import signal
import threading
from typing import Any

from tiger_jax.errors import Preempted

# A progress bar may stand in the line.
_LEAVING = b'\nerror: asked to stop; run the same command to go on\n'


def leave_at_sigterm() -> None:
  """Lets SIGTERM end the process as a `Preempted` would, and at once.

  For where there is nothing to save: what is half made is made again. So it is
  until the process ends, but for what a `StopSignal` hears.
  """

  def leave(unused_number: int, unused_frame: Any) -> None:
    # Not `print`, which may be what was interrupted.
    os.write(2, _LEAVING)
    os._exit(Preempted.exit_code)

  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, leave)


class StopSignal:
  """Notes SIGTERM and Ctrl-C, so that a loop can save and leave.

  A second Ctrl-C acts as if nobody were listening; a second SIGTERM, which
  some schedulers send, changes nothing.

  Attributes:
    received: Whether a signal came.
  """

  def __init__(self):
    """Notes nothing yet."""
    self.received = False
    self._before: dict[int, Any] = {}

  def __enter__(self) -> 'StopSignal':
    """Installs the handlers; only the main thread may, others go without."""
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._before[number] = signal.signal(number, self._note)
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
