"""A polite request to stop."""

import signal
import threading
from typing import Any


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
