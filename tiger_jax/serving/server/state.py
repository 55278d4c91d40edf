"""The state of the server: the models, the lanes and the recommendations."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent import futures
import dataclasses
import math
import time
from typing import Any

from starlette.responses import Response

from tiger_jax.serving.recommendation import NewItem, RecommendationList
from tiger_jax.serving.server import edits, schemas
from tiger_jax.serving.server.batching import Lane
from tiger_jax.serving.server.failures import Failure
from tiger_jax.serving.server.metrics import Metrics
from tiger_jax.serving.server.models import WARM_OPTIONS, Models
from tiger_jax.serving.server.settings import Settings

# Searches that exclude more items use programs that are not compiled at the
# start.
_MAX_FAST_SEEN = 32
# A change of the model or the catalog slows searches down, so more requests may
# wait for them.
_LIMIT_WHILE_CHANGING = 4
_OR_IGNORE = (
  'name known items, or set "strict" to false to ignore unknown ids in a '
  'history'
)


@dataclasses.dataclass(frozen=True)
class Answer:
  """The lists for a request as JSON, and the model and catalog versions."""

  lists: list[dict[str, Any]]
  versions: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Request:
  histories: list[list[str]]
  k: int
  strict: bool


class State:
  """The state that all endpoints of both ports share.

  There are two lanes. The fast lane handles requests whose programs are already
  compiled: requests that set no option except `exclude_seen`. The slow lane
  handles all other requests, so that a compilation or a search with many beams
  does not delay requests in the fast lane.

  Attributes:
    settings: The settings of the server.
    models: The served model.
    metrics: The metrics of the server.
    is_draining: Whether new requests are refused.
    is_stopping: Whether the process is ending.
    fast: The lane of requests whose programs are compiled.
    slow: The lane of all other requests.
  """

  def __init__(self, settings: Settings, models: Models, metrics: Metrics):
    """Starts the lanes."""
    self.settings = settings
    self.models = models
    self.metrics = metrics
    self.is_draining = False
    self.is_stopping = False
    self._changes = futures.ThreadPoolExecutor(1, 'changes')
    self._num_changes = 0
    self._changed_at = -math.inf
    # The number of requests in the slow lane.
    self._num_slow = 0
    self.fast = self._lane('fast')
    self.slow = self._lane('slow')

  def _lane(self, name: str) -> Lane:
    batch, waited = (
      x.labels(name) for x in (self.metrics.batch, self.metrics.waited)
    )

    def observe(num_histories: int, seconds: list[float]) -> None:
      batch.observe(num_histories)
      for x in seconds:
        waited.observe(x)

    lane = Lane(
      self._answer, self.settings.max_queued, self.settings.max_batch, observe
    )
    self.metrics.queued.labels(name).set_function(lambda: lane.num_queued)
    return lane

  @property
  def is_idle(self) -> bool:
    """Whether no request is queued or being answered."""
    return self.fast.is_idle and self.slow.is_idle

  @property
  def is_changing(self) -> bool:
    """Whether a change is running or ended less than settle_seconds ago."""
    end = self._changed_at + self.settings.settle_seconds
    return self._num_changes > 0 or time.monotonic() < end

  def is_full(self, num_requests: int) -> bool:
    """Whether a new request is refused before it is read.

    Args:
      num_requests: The number of requests in progress.
    """
    limit = self.settings.max_in_flight
    if self.is_changing:
      limit *= _LIMIT_WHILE_CHANGING
    return num_requests - self._num_slow >= limit

  async def recommend(
    self,
    body: schemas.RecommendBody | schemas.RecommendBatchBody,
    histories: list[list[str]],
    start: float,
  ) -> Answer:
    """Returns the recommendations for a request.

    Args:
      body: The request.
      histories: The histories of the request.
      start: The time of the first byte of the request.

    Raises:
      Failure: The request is not valid, the queue is full, or the deadline has
        passed.
    """
    settings, served = self.settings, self.models.current
    self._check(body, histories)
    options = body.options.options()
    is_fast = (
      options in WARM_OPTIONS
      and body.k <= served.num_beams
      and not (
        options.exclude_seen and max(map(len, histories)) > _MAX_FAST_SEEN
      )
    )
    if (self.fast if is_fast else self.slow).is_full:
      raise Failure('queue_full', 'too many requests are waiting: retry later')
    ids = [x for history in histories for x in history]
    if body.strict and (unknown := served.unknown(ids)):
      raise _unknown(unknown)
    if unknown := served.unknown([*options.deny, *(options.allow or ())]):
      raise _unknown(unknown, 'name known items in "deny" and "allow"')
    request = _Request(histories, body.k, body.strict)

    async def ask(lane: Lane, timeout_ms: int, k: int | None) -> Any:
      used = time.monotonic() - start
      seconds = (body.timeout_ms or timeout_ms) / 1e3 - used
      return await lane.ask((options, k), len(histories), request, seconds)

    if is_fast:
      # The list for a smaller k is the beginning of the list for a larger k.
      answer = await ask(self.fast, settings.timeout_ms, None)
      if isinstance(answer, Answer):
        return answer
      # In the meantime, a model was loaded that has fewer than k beams.
    self._num_slow += 1
    try:
      # The items of an exact or a random search depend on k.
      return await ask(self.slow, settings.slow_timeout_ms, body.k)
    finally:
      self._num_slow -= 1

  def _check(
    self,
    body: schemas.RecommendBody | schemas.RecommendBatchBody,
    histories: list[list[str]],
  ) -> None:
    """Refuses requests that are too large."""
    settings = self.settings
    num_items = body.k * len(histories)
    if body.k > settings.max_k:
      raise Failure(
        'invalid_request', f'k is {body.k}: choose 1 to {settings.max_k}'
      )
    listed = max(len(body.options.deny), len(body.options.allow or ()))
    for what, size, limit in (
      ('histories', len(histories), settings.max_batch),
      (
        'items in all lists (k times the histories)',
        num_items,
        settings.max_items,
      ),
      ('item ids in a history', max(map(len, histories)), settings.max_history),
      ('item ids in deny or allow', listed, settings.max_listed),
    ):
      if size > limit:
        raise Failure('too_large', f'{size} {what}: send at most {limit}')

  def _answer(self, key: Any, requests: list[_Request]) -> list[Any]:
    """Answers the requests of a batch, in the thread of a lane.

    Args:
      key: The options and k. In the fast lane, k is None.
      requests: The requests.

    Returns:
      An `Answer` or an exception for each request. In the fast lane, None for a
      request that needs the slow lane.
    """
    served = self.models.current
    options, k = key
    # The fast lane uses the number of beams of the model. The model may have
    # changed since the request was queued.
    limit = served.num_beams if k is None else k
    searched = [x for x in requests if x.k <= limit]
    lists = served.shop.recommend_batch(
      [history for x in searched for history in x.histories],
      max((x.k for x in searched), default=1),
      options,
      strict=False,
    )
    answers: list[Any] = []
    versions = served.versions
    for request in requests:
      if request.k > limit:
        answers.append(None)
        continue
      own = lists[: len(request.histories)]
      del lists[: len(own)]
      unknown = [x for entry in own for x in entry.unknown]
      if request.strict and unknown:  # The catalog has changed.
        answers.append(_unknown(unknown))
        continue
      self.metrics.fallbacks.inc(sum(x.fallback is not None for x in own))
      answers.append(Answer([_as_json(x, request.k) for x in own], versions))
    return answers

  def describe(self) -> dict[str, Any]:
    """Returns the served model and its limits."""
    served = self.models.current
    snapshot = served.shop.snapshot
    return {
      'name': served.name,
      'num_items': served.shop.num_items,
      'level_sizes': list(snapshot.catalog.level_sizes),
      'max_history': snapshot.model.session.config.model.max_history,
      'max_k': self.settings.max_k,
      'demo': self.settings.demo and snapshot.model.can_encode_text,
    } | served.versions

  async def warm_changes(self) -> None:
    """Compiles the programs that add items, if items can be added."""
    if self.settings.admin_token is not None or self.settings.demo:
      await self.change(self.models.warm_changes)

  async def change(self, make: Callable[[], Any]) -> Any:
    """Runs a change in the thread for changes, and returns its result.

    A separate thread makes the changes, so that they do not occupy the threads
    of read-only requests.

    Raises:
      Failure: Too many changes are waiting.
    """
    if self._num_changes >= self.settings.max_changes:
      raise Failure('queue_full', 'too many changes are waiting: retry later')
    self._num_changes += 1
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(self._changes, make)
    future.add_done_callback(self._forget_change)
    return await future

  def _forget_change(self, unused_future: Any) -> None:
    self._num_changes -= 1
    self._changed_at = time.monotonic()

  def add_items(self, items: Sequence[schemas.DescribedItemBody]) -> Response:
    """Adds items and returns them."""
    new = [NewItem(**dict(x)) for x in items]
    served, added = self.models.change(
      'add', lambda shop: edits.add_items(shop, new)
    )
    return schemas.respond(
      {'items': [x._asdict() for x in added]} | served.versions
    )

  def close(self, seconds: float) -> None:
    """Ends the threads. A thread that is busy may need longer than `seconds`.

    Args:
      seconds: The maximum time to wait.
    """
    end = time.monotonic() + seconds
    self._changes.shutdown(wait=False, cancel_futures=True)
    for lane in (self.fast, self.slow):
      lane.close(end - time.monotonic())


def _as_json(entry: RecommendationList, k: int) -> dict[str, Any]:
  return {
    'items': [x._asdict() for x in entry[:k]],
    'unknown': list(entry.unknown),
    'fallback': entry.fallback,
  }


def _unknown(ids: list[str], remedy: str = _OR_IGNORE) -> Failure:
  more = f' (and {len(ids) - 1} more)' if len(ids) > 1 else ''
  return Failure(
    'unknown_item', f'no item {ids[0][:60]!r}{more} in the catalog: {remedy}'
  )
