"""Groups requests into batches that one thread answers."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
import contextlib
import dataclasses
import threading
import time
from typing import Any

from tiger_jax.serving.server.failures import Failure


@dataclasses.dataclass(eq=False)
class _Job:
  """A request in the queue.

  Attributes:
    key: Only requests with equal keys are answered together.
    size: The number of histories.
    request: The content of the request.
    future: Receives the answer.
    queued_at: The time when the request was queued.
  """

  key: Hashable
  size: int
  request: Any
  future: asyncio.Future
  queued_at: float = dataclasses.field(default_factory=time.monotonic)


class Lane:
  """A bounded queue of requests and the thread that answers them.

  When the thread is free, it takes the oldest request and all requests that can
  be answered together with it. A request never waits for others to arrive.
  """

  def __init__(
    self,
    answer: Callable[[Any, list[Any]], list[Any]],
    max_queued: int,
    max_batch: int,
    on_batch: Callable[[int, list[float]], None] = lambda *_: None,
  ):
    """Starts the thread.

    Args:
      answer: Takes the key and the requests of a batch, and returns an answer
        or an exception for each request. It runs in the thread.
      max_queued: The maximum number of histories in the queue.
      max_batch: The maximum number of histories in one batch.
      on_batch: Called with the number of histories of each batch, and with the
        number of seconds that each request has waited.
    """
    self._answer = answer
    self._max_queued = max_queued
    self._max_batch = max_batch
    self._on_batch = on_batch
    self._queue: deque[_Job] = deque()
    self._num_queued = 0
    self._is_busy = False
    self._is_closed = False
    self._changed = threading.Condition()
    self._thread = threading.Thread(target=self._work, daemon=True)
    self._thread.start()

  @property
  def num_queued(self) -> int:
    """The number of histories in the queue."""
    return self._num_queued

  @property
  def is_full(self) -> bool:
    """Whether the queue is full."""
    return self._num_queued >= self._max_queued

  @property
  def is_idle(self) -> bool:
    """Whether no request is queued or being answered."""
    return not (self._num_queued or self._is_busy)

  async def ask(
    self, key: Hashable, size: int, request: Any, seconds: float
  ) -> Any:
    """Queues a request and returns its answer.

    A request that is still queued is dropped if the calling task is canceled or
    the deadline passes.

    Args:
      key: Only requests with equal keys are answered together.
      size: The number of histories of the request, at most `max_batch`.
      request: The content of the request.
      seconds: The time until the deadline.

    Raises:
      Failure: The queue is full, or the deadline has passed.
    """
    loop = asyncio.get_running_loop()
    if seconds <= 0:
      raise _deadline()
    job = _Job(key, size, request, loop.create_future())
    with self._changed:
      if self._is_closed:
        raise Failure('draining', 'the server is draining: use another server')
      if self._num_queued + size > self._max_queued:
        raise Failure(
          'queue_full', 'too many requests are waiting: retry later'
        )
      self._queue.append(job)
      self._num_queued += size
      self._changed.notify()
    timer = loop.call_later(seconds, _expire, job.future)
    try:
      answer = await job.future
    finally:
      timer.cancel()
      job.future.cancel()
      self._drop(job)
    if isinstance(answer, Exception):
      raise answer
    return answer

  def close(self, seconds: float) -> None:
    """Answers the queued requests, and ends the thread.

    Args:
      seconds: The maximum time to wait for the thread. After this time, the
        method returns even if a request is still being answered.
    """
    with self._changed:
      self._is_closed = True
      self._changed.notify()
    self._thread.join(max(0, seconds))

  def _drop(self, job: _Job) -> None:
    """Removes a request from the queue if it is still there."""
    with self._changed:
      if job in self._queue:
        self._queue.remove(job)
        self._num_queued -= job.size

  def _work(self) -> None:
    while batch := self._take():
      now = time.monotonic()
      sizes = sum(job.size for job in batch)
      self._on_batch(sizes, [now - job.queued_at for job in batch])
      try:
        answers = self._answer(batch[0].key, [job.request for job in batch])
      except Exception as error:
        answers = [error] * len(batch)
      futures = [job.future for job in batch]
      # If the event loop is closed, no caller needs the answers.
      with contextlib.suppress(RuntimeError):
        loop = futures[0].get_loop()
        loop.call_soon_threadsafe(_deliver, futures, answers)
      self._is_busy = False

  def _take(self) -> list[_Job]:
    """Waits for requests and returns a batch; empty if the lane is closed."""
    with self._changed:
      while True:
        batch = self._next_batch()
        if batch or self._is_closed:
          self._is_busy = bool(batch)
          return batch
        self._changed.wait()

  def _next_batch(self) -> list[_Job]:
    batch: list[_Job] = []
    remaining: deque[_Job] = deque()
    size = 0
    for job in self._queue:
      fits = not batch or (
        job.key == batch[0].key and size + job.size <= self._max_batch
      )
      if fits:
        batch.append(job)
        size += job.size
      else:
        remaining.append(job)
    self._queue = remaining
    self._num_queued = sum(job.size for job in remaining)
    return batch


def _deadline() -> Failure:
  return Failure(
    'deadline', 'the deadline has passed: retry, or allow more time'
  )


def _expire(future: asyncio.Future) -> None:
  if not future.done():
    future.set_result(_deadline())


def _deliver(futures: list[asyncio.Future], answers: list[Any]) -> None:
  for future, answer in zip(futures, answers, strict=True):
    if not future.done():
      future.set_result(answer)
