"""A polite request to stop."""

import signal
import threading
from typing import Any


class StopSignal:
  """Notes SIGTERM while in context, so that a loop can save and leave.

  Attributes:
    received: Whether the signal came.
  """

  def __init__(self):
    """Notes nothing yet."""
    self.received = False

  def __enter__(self) -> 'StopSignal':
    """Installs the handler; only the main thread may, others go without."""
    self._before = None
    if threading.current_thread() is threading.main_thread():
      self._before = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *unused: Any) -> None:
    """Puts the handler from before back."""
    if self._before is not None:
      signal.signal(signal.SIGTERM, self._before)

  def _note(self, *unused: Any) -> None:
    self.received = True
