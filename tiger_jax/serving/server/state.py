"""The state of the server: the models, the lanes and the recommendations."""

import dataclasses
import time
from typing import Any

from starlette.responses import Response

from tiger_jax.serving.recommendation import NewItem, RecommendationList
from tiger_jax.serving.server import schemas
from tiger_jax.serving.server.batching import Lane
from tiger_jax.serving.server.failures import Failure
from tiger_jax.serving.server.metrics import Metrics
from tiger_jax.serving.server.models import WARM_OPTIONS, Models, Served
from tiger_jax.serving.server.settings import Settings

# Searches with more different items in a history use other programs.
_MAX_FAST_SEEN = 32


@dataclasses.dataclass(frozen=True)
class Answer:
  """The lists of one request, as JSON, and the versions that they come from."""

  lists: list[dict[str, Any]]
  versions: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Request:
  histories: list[list[str]]
  k: int
  strict: bool


class State:
  """What all endpoints of both ports share.

  There are two lanes. The fast lane has the requests whose programs are
  compiled: those that need no option but `exclude_seen`. The slow lane has all
  others, so that a compilation or a search with many beams delays no request of
  the fast lane.
  """

  def __init__(self, settings: Settings, models: Models, metrics: Metrics):
    """Starts the lanes."""
    self.settings = settings
    self.models = models
    self.metrics = metrics
    self.is_draining = False
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
    """Whether no request waits."""
    return self.fast.is_idle and self.slow.is_idle

  def refusal(self) -> Failure | None:
    """Returns why no request can be accepted now, or None."""
    if self.is_draining:
      return Failure('draining', 'the server is stopping: ask another one')
    if self.fast.is_full:
      return Failure('queue_full', 'too many requests wait: retry later')
    return None

  async def recommend(
    self,
    body: schemas.RecommendBody | schemas.RecommendBatchBody,
    histories: list[list[str]],
    start: float,
  ) -> Answer:
    """Returns the recommendations for a request.

    Args:
      body: The request.
      histories: Its histories.
      start: The time of the first byte of the request.

    Raises:
      Failure: The request is not valid, the queue is full, or the deadline has
        passed.
    """
    settings, served = self.settings, self.models.current
    self._check(body, histories)
    if body.strict:
      _check_known(served, [x for history in histories for x in history])
    options = body.options.options()
    _check_known(served, [*options.deny, *(options.allow or ())])
    is_fast = (
      options in WARM_OPTIONS
      and body.k <= served.num_beams
      and not (
        options.exclude_seen and max(map(len, histories)) > _MAX_FAST_SEEN
      )
    )
    lane, timeout_ms = self.slow, settings.slow_timeout_ms
    if is_fast:
      lane, timeout_ms = self.fast, settings.timeout_ms
    timeout_ms = body.timeout_ms or timeout_ms
    # A search for a smaller k gives the beginning of the list, except that an
    # exact or a random search depends on k.
    key = (options, None if is_fast else body.k)
    request = _Request(histories, body.k, body.strict)
    remaining = timeout_ms / 1e3 - (time.monotonic() - start)
    return await lane.ask(key, len(histories), request, remaining)

  def _check(
    self,
    body: schemas.RecommendBody | schemas.RecommendBatchBody,
    histories: list[list[str]],
  ) -> None:
    """Refuses requests that are too large."""
    settings = self.settings
    if body.k > settings.max_k:
      raise Failure(
        'invalid_request', f'k is {body.k}: choose 1 to {settings.max_k}'
      )
    listed = max(len(body.options.deny), len(body.options.allow or ()))
    for what, size, limit in (
      ('histories', len(histories), settings.max_batch),
      ('item ids in a history', max(map(len, histories)), settings.max_history),
      ('item ids in deny or allow', listed, settings.max_listed),
    ):
      if size > limit:
        raise Failure('too_large', f'{size} {what}: send at most {limit}')

  def _answer(self, key: Any, requests: list[_Request]) -> list[Any]:
    """Answers the requests of a batch, in the thread of a lane."""
    served = self.models.current
    options, _ = key
    lists = served.shop.recommend_batch(
      [history for x in requests for history in x.histories],
      max(x.k for x in requests),
      options,
      strict=False,
    )
    answers: list[Any] = []
    versions = served.versions
    for request in requests:
      own = lists[: len(request.histories)]
      del lists[: len(own)]
      unknown = [x for entry in own for x in entry.unknown]
      if request.strict and unknown:  # The catalog has changed meanwhile.
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

  def add_items(self, items: list[schemas.NewItemBody]) -> Response:
    """Adds items and returns them."""
    new = [NewItem(**dict(x)) for x in items]
    served, added = self.models.change('add', lambda shop: shop.add_items(new))
    return schemas.respond(
      {'items': [x._asdict() for x in added]} | served.versions
    )

  def close(self) -> None:
    """Ends the threads of the lanes."""
    self.fast.close()
    self.slow.close()


def _as_json(entry: RecommendationList, k: int) -> dict[str, Any]:
  return {
    'items': [x._asdict() for x in entry[:k]],
    'unknown': list(entry.unknown),
    'fallback': entry.fallback,
  }


def _check_known(served: Served, ids: list[str]) -> None:
  if unknown := served.unknown(ids):
    raise _unknown(unknown)


def _unknown(ids: list[str]) -> Failure:
  more = f' (and {len(ids) - 1} more)' if len(ids) > 1 else ''
  return Failure(
    'unknown_item',
    f'no item {ids[0][:60]!r}{more} in the catalog: name known items, or set '
    '"strict" to false to ignore unknown ones in a history',
  )
