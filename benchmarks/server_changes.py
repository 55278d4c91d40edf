"""Changes the catalog and the model of a server under load."""

import json
from pathlib import Path
import threading
import time
from typing import Any

from jaxtyping import Float
import numpy as np

from benchmarks.http_server import Server
from benchmarks.server_load import (
  LEAD_SECONDS,
  SETTLE_SECONDS,
  Sample,
  Targets,
  load,
)
from tiger_jax import Recommender

# The number of new items in one request.
_MAX_ADDED = 200
_NUM_NEW = 1000


def measure_changes(
  server: Server,
  bodies: list[str],
  rate: float,
  num_swaps: int,
  num_loads: int,
  targets: Targets,
) -> None:
  """Changes the catalog and the model under load, and prints the findings."""
  vectors, known = read_catalog(server.workdir)
  make_item = NewItems(vectors)
  catalogs = {1: set(known)}
  load(server, bodies, 2, rate)
  memory = [server.memory]

  def swap() -> None:
    # The load starts after this time.
    time.sleep(LEAD_SECONDS + 0.5)
    version = 1
    for i in range(num_swaps + num_loads):
      before = catalogs[version]
      if i % (num_swaps // num_loads + 1) == 0:
        body = {'model': server.workdir.name}
        reply = server.ask('POST', '/admin/reload', body, True)
        after = set(known)
      elif i % 2:
        item = make_item(f'new-{i}')
        reply = server.ask('POST', '/admin/items', {'items': [item]}, True)
        after = before | {item['id']}
      else:
        item = sorted(before)[i]
        reply = server.ask('DELETE', '/admin/items', {'ids': [item]}, True)
        after = before - {item}
      version = reply['catalog']
      catalogs[version] = after

  thread = threading.Thread(target=swap)
  thread.start()
  samples: list[Sample] = []
  while thread.is_alive():
    samples += load(server, bodies, 5, rate, keep=True, settle=0)
  thread.join()
  load(server, bodies, 2, rate)
  memory.append(server.memory)
  failed = sum(x.status != 200 for x in samples)
  mixed = 0
  for x in samples:
    if x.status == 200:
      answer = json.loads(x.answer)
      items = {item['item_id'] for item in answer['items']}
      mixed += not items <= catalogs[answer['catalog']]
  targets.check('requests that failed during changes', failed, 0)
  targets.check('answers with items of another catalog', mixed, 0)
  targets.check(
    'memory after the changes, relative to before', memory[1] / memory[0], 1.05
  )
  print(
    f'{num_swaps} changes of the catalog and {num_loads} of the model at '
    f'{rate:.0f} requests/s: {failed} of {len(samples)} requests failed, '
    f'{mixed} answers had items of another catalog; memory '
    f'{memory[0]:.0f} MiB before and {memory[1]:.0f} MiB after',
    flush=True,
  )
  print(_measure_additions(server, bodies, rate, make_item, targets))


def _measure_additions(
  server: Server,
  bodies: list[str],
  rate: float,
  make_item: 'NewItems',
  targets: Targets,
) -> str:
  quiet = load(server, bodies, 5, rate)
  items = [make_item(f'added-{i}') for i in range(_NUM_NEW)]
  seconds = []

  def add() -> None:
    time.sleep(LEAD_SECONDS + SETTLE_SECONDS + 2)
    start = time.monotonic()
    # The body of a request is limited.
    for first in range(0, _NUM_NEW, _MAX_ADDED):
      body = {'items': items[first : first + _MAX_ADDED]}
      server.ask('POST', '/admin/items', body, admin=True)
    seconds.append(time.monotonic() - start)

  thread = threading.Thread(target=add)
  thread.start()
  busy = load(server, bodies, 5, rate)
  thread.join()
  history = json.loads(bodies[0])['history']
  reached = 0
  for item in items:
    options = {'allow': [item['id']]}
    body = {'history': history, 'k': 1, 'options': options}
    answer = server.ask('POST', '/v1/recommend', body)
    reached += [x['item_id'] for x in answer['items']] == [item['id']]
  p99 = [
    1e3 * np.percentile([x.done - x.scheduled for x in part], 99)
    for part in (quiet, busy)
  ]
  targets.check('seconds to add items', seconds[0], 1)
  targets.check('new items that are not recommended', len(items) - reached, 0)
  targets.check(
    'p99 while items are added, relative to before', p99[1] / p99[0], 1.2
  )
  return (
    f'{_NUM_NEW:,} new items: added in {seconds[0]:.2f} s; {reached} are '
    f'recommended; p99 of other requests {p99[0]:.1f} ms before and '
    f'{p99[1]:.1f} ms during the change'
  )


class NewItems:
  """Makes new items, each similar to two random items of the catalog.

  Attributes:
    vectors: The vectors of the catalog.
  """

  def __init__(self, vectors: Float[np.ndarray, 'items dim']):
    """Takes the vectors of the catalog."""
    self.vectors = vectors
    self._rng = np.random.default_rng(0)

  def __call__(self, item: str) -> dict[str, Any]:
    """Returns an item with this id."""
    one, two = self.vectors[self._rng.integers(len(self.vectors), size=2)]
    vector = (0.8 * one + 0.2 * two).round(4).tolist()
    return {'id': item, 'title': f'Item {item}', 'vector': vector}


def read_catalog(
  workdir: Path,
) -> tuple[Float[np.ndarray, 'items dim'], tuple[str, ...]]:
  """Returns the vectors and the ids of the items."""
  model = Recommender.from_workdir(workdir).snapshot.model
  assert model.vectors is not None and model.dataset is not None
  return model.vectors.astype(np.float32), model.dataset.items.ids
