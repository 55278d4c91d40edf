"""The served model, its catalog, and the changes to both."""

from collections.abc import Callable
import contextlib
import copy
import ctypes
import dataclasses
import math
from pathlib import Path
import re
import threading
from typing import Any

import jax
import numpy as np

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.errors import TigerError, UsageError
from tiger_jax.serving.loading import load
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import NewItem
from tiger_jax.serving.recommender import Recommender
from tiger_jax.serving.search import BATCHES
from tiger_jax.serving.server.failures import Failure
from tiger_jax.serving.server.metrics import Metrics
from tiger_jax.serving.snapshot import Snapshot

# The options whose programs are compiled before the server starts.
WARM_OPTIONS = (Options(), Options(exclude_seen=True))
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,99}')


@dataclasses.dataclass(frozen=True)
class Served:
  """An immutable pair of a model and a catalog.

  Attributes:
    name: The name of the folder of the model.
    shop: The model and the catalog.
    catalog: The version of the catalog: 1 at the start, plus 1 for every
      change. Unlike `Recommender.catalog_version`, no version occurs twice.
  """

  name: str
  shop: Recommender
  catalog: int

  @property
  def versions(self) -> dict[str, Any]:
    """The response fields that identify the model and the catalog."""
    return {'model': self.shop.model_version, 'catalog': self.catalog}

  @property
  def num_beams(self) -> int:
    """The number of beams of a search. A larger k needs more beams."""
    return self.shop.snapshot.retriever.num_beams

  def unknown(self, ids: list[str]) -> list[str]:
    """Returns the ids that are not in the catalog."""
    return self.shop.snapshot.known.unknown(ids)


class Models:
  """Holds the served and the previous model, and makes all changes.

  Each change is made on a copy. The copy is tested and warmed up before it
  replaces the served model. A request reads `current` once, so it sees one
  model and one catalog.
  """

  def __init__(
    self,
    name: str,
    shop: Recommender,
    root: Path,
    metrics: Metrics,
    max_batch: int,
  ):
    """Warms up the first model.

    Args:
      name: The name of the folder of the model.
      shop: The model and its catalog.
      root: The folder of the models that `reload` may load.
      metrics: The metrics of the server.
      max_batch: The maximum number of histories in one search.
    """
    self._root = root
    self._metrics = metrics
    self._max_batch = max_batch
    self._lock = threading.Lock()
    self._previous: Served | None = None
    self._current = Served(name, shop, 1)
    warm(self._current, max_batch)
    self._show(self._current)

  @property
  def current(self) -> Served:
    """The served model and its catalog."""
    return self._current

  def warm_changes(self) -> None:
    """Compiles the programs that add items to the served catalog."""
    _warm_additions(self._current.shop)

  def change(
    self, kind: str, edit: Callable[[Recommender], Any]
  ) -> tuple[Served, Any]:
    """Changes the catalog.

    Args:
      kind: The name of the change, for the metrics.
      edit: A function that changes a Recommender. Its argument is a copy of the
        served Recommender.

    Returns:
      The new state, and the result of `edit`.

    Raises:
      Failure: The change is not possible. The catalog is unchanged.
    """

    def changed() -> tuple[str, Recommender, Any]:
      # The copy shares the parameters and the catalog, which are immutable.
      shop = copy.copy(self._current.shop)
      return self._current.name, shop, edit(shop)

    return self._replace(kind, changed)

  def reload(self, name: str) -> Served:
    """Loads a model by name, or loads the served model again.

    Raises:
      Failure: There is no such model, or it cannot be loaded. The server then
        keeps the old model.
    """

    def loaded() -> tuple[str, Recommender, Any]:
      return name, load(self._folder(name)), None

    try:
      return self._replace('reload', loaded)[0]
    finally:
      _return_memory()

  def rollback(self) -> Served:
    """Restores the model and the catalog from before the last change.

    Raises:
      Failure: There was no change.
    """

    def former() -> tuple[str, Recommender, Any]:
      if self._previous is None:
        raise Failure('conflict', 'nothing has changed since the start')
      return self._previous.name, self._previous.shop, None

    return self._replace('rollback', former)[0]

  def _replace(
    self, kind: str, make: Callable[[], tuple[str, Recommender, Any]]
  ) -> tuple[Served, Any]:
    with self._lock:
      try:
        name, shop, result = make()
        served = Served(name, shop, self._current.catalog + 1)
        if _same_programs(self._current.shop.snapshot, shop.snapshot):
          _check_search(served, 1)
        else:
          warm(served, self._max_batch)
          _warm_additions(shop)
      except Exception as error:
        self._metrics.changes.labels(kind, 'refused').inc()
        if isinstance(error, TigerError):
          # If a model cannot be served, the request is still valid.
          is_invalid = kind != 'reload' and isinstance(error, UsageError)
          code = 'invalid_request' if is_invalid else 'conflict'
          raise Failure(code, _public(error)) from error
        raise
      self._previous, self._current = self._current, served
      self._metrics.changes.labels(kind, 'done').inc()
      self._show(served)
    return served, result

  def _folder(self, name: str) -> Path:
    """Returns the folder of a model.

    Raises:
      Failure: The name is not the name of a folder, or the folder is a link or
        does not exist.
    """
    folder = self._root / name
    if not _NAME.fullmatch(name) or folder.is_symlink() or not folder.is_dir():
      raise Failure(
        'unknown_model',
        'there is no such model: name a subfolder of the models folder',
      )
    return folder

  def _show(self, served: Served) -> None:
    self._metrics.catalog.set(served.catalog)
    self._metrics.items.set(served.shop.num_items)


def warm(served: Served, max_batch: int) -> None:
  """Compiles and runs every program that the fast lane needs.

  Raises:
    UsageError: The model gives no recommendations, or scores that are not
      finite.
  """
  sizes = [*(x for x in BATCHES if x < max_batch), max_batch]
  for size in sizes:
    _check_search(served, size)


def _warm_additions(shop: Recommender) -> None:
  """Compiles the programs for adding up to 1,024 items.

  It adds items to a copy of the Recommender, so the catalog does not change.
  """
  shop = copy.copy(shop)
  tokenizer = shop.snapshot.model.tokenizer
  if tokenizer is None:
    return
  vector = np.ones(tokenizer.dim, np.float32)
  snapshot = shop.snapshot
  num_free = math.prod(snapshot.catalog.level_sizes) - len(snapshot.ids)
  # The tokenizer gives all of these items the same prefix. Some of them are
  # therefore moved to other prefixes, which compiles these programs too.
  items = [
    NewItem(f'item {i}', 'title', vector=vector)
    for i in range(min(64, num_free))
  ]
  # If the items cannot be added, the first real addition compiles the programs.
  with contextlib.suppress(TigerError):
    shop.add_items(items)


def _check_search(served: Served, size: int) -> None:
  """Searches for `size` histories of one item.

  Raises:
    UsageError: There are no recommendations, or scores that are not finite.
  """
  snapshot = served.shop.snapshot
  snapshot.prepare()
  item = snapshot.ids[int(snapshot.rows[0])]
  found = served.shop.recommend_batch([[item]] * size, 1)[0]
  if not found or any(not math.isfinite(x.score) for x in found):
    raise UsageError(
      f'the model {served.name} gives no recommendations, or scores that are '
      'not finite: train it again'
    )


def _same_programs(old: Snapshot, new: Snapshot) -> bool:
  """Returns whether two snapshots use the same compiled programs."""
  one, other = (
    (x.model, jax.tree.structure(x.catalog), _shapes(x.catalog))
    for x in (old, new)
  )
  return one == other


def _shapes(catalog: Catalog) -> list[tuple[int, ...]]:
  return [x.shape for x in jax.tree.leaves(catalog)]


def _return_memory() -> None:
  """Returns freed memory to the system. By default, glibc keeps much of it."""
  # Other C libraries have no such function.
  with contextlib.suppress(AttributeError, OSError):
    ctypes.CDLL(None).malloc_trim(0)


def _public(error: TigerError) -> str:
  """Returns the message of an error for a client of the server.

  The message contains no folders of this machine, and names JSON fields instead
  of Python arguments.
  """
  text = re.sub(r'(?<!\w)/[^\s,:]*/', '', str(error))
  return re.sub(r'\b(text|title|vector)=', r'the field "\1"', text)
