"""Measures the HTTP server under load: latency, overload, batches and swaps.

  python -m benchmarks.serving --workdir=runs/quickstart --quick

The server and the processes that send the requests share the cores of the
machine. Requests are sent at times drawn beforehand (a Poisson process), and
latency is counted from these times. `late` is the 99th percentile of the time
from the scheduled time of a request until the request is sent, in milliseconds.
The load generator causes this delay, and the latency includes the delay. With
`--peer`, the command also measures a FastAPI server of Hugging Face's T5, which
needs the extra `bench`.

The command exits with 1 if a figure misses its target, and names the figure.
"""

import argparse
import json
import os
from pathlib import Path
import random
import subprocess
import sys
import threading
import time
from typing import Any, NamedTuple

from jaxtyping import Float
import numpy as np

from benchmarks import measuring
from benchmarks.http_server import Server, running, running_peer
from tiger_jax.data.dataset import Dataset
from tiger_jax.stages import embedding
from tiger_jax.storage.artifacts import input_folder, read_artifact

# One process can send about this many requests per second on time.
_RATE_PER_PROCESS = 600
# The time that the load generator processes have to start.
_LEAD_SECONDS = 1.5
_K = 10


class Sample(NamedTuple):
  """A request: its times in seconds, its status and its response."""

  scheduled: float
  sent: float
  done: float
  status: int
  answer: str


class Targets:
  """Compares figures with their targets.

  Attributes:
    missed: A line for each figure that misses its target.
  """

  def __init__(self):
    """Starts without figures."""
    self.missed: list[str] = []

  def check(self, figure: str, value: float, most: float) -> None:
    """Compares a figure with the largest value that its target allows."""
    if not value <= most:  # NaN misses its target.
      self.missed.append(f'{figure}: {value:.3g}, the target is {most:g}')


def load(
  server: Server,
  bodies: list[str],
  seconds: float,
  rate: float,
  connections: int = 0,
  keep: bool = False,
) -> list[Sample]:
  """Sends requests from separate processes, and returns all samples."""
  num_processes = max(1, min(4, round(rate / _RATE_PER_PROCESS)))
  start = time.time() + _LEAD_SECONDS
  processes = []
  for i in range(num_processes):
    process = subprocess.Popen(
      [sys.executable, '-m', 'benchmarks.open_loop'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    job = {
      'port': server.port,
      'start': start,
      'seconds': seconds,
      'rate': rate / num_processes,
      'connections': connections,
      'seed': i,
      'bodies': bodies[i::num_processes],
      'keep': keep,
    }
    assert process.stdin
    process.stdin.write(json.dumps(job))
    process.stdin.close()
    processes.append(process)
  samples = []
  for process in processes:
    assert process.stdout
    samples += [Sample(*json.loads(line)) for line in process.stdout]
    if process.wait():
      raise RuntimeError('a load generator process failed')
  return samples


def summary(samples: list[Sample], seconds: float) -> list[str]:
  """Returns the cells of a row: rates, latencies and failures."""
  served = [x for x in samples if x.status == 200]
  latency = 1e3 * np.array([x.done - x.scheduled for x in served] or [np.nan])
  late = 1e3 * np.array([x.sent - x.scheduled for x in samples if x.sent >= 0])
  refused = sum(x.status == 429 for x in samples)
  other = sum(x.status not in (0, 200, 429) for x in samples)
  lost = sum(x.status == 0 for x in samples)
  return [
    f'{len(samples) / seconds:.0f}', f'{len(served) / seconds:.0f}',
    f'{np.percentile(latency, 50):.1f}', f'{np.percentile(latency, 99):.1f}',
    f'{refused / len(samples):.1%}', str(other), str(lost),
    f'{np.percentile(late, 99):.1f}',
  ]  # fmt: skip


def capacity(
  server: Server, bodies: list[str], seconds: float, connections: int = 48
) -> float:
  """Returns the served requests per second of a closed loop."""
  samples = load(server, bodies, seconds, 0, connections)
  return sum(x.status == 200 and x.done <= seconds for x in samples) / seconds


def measure_latency(
  server: Server,
  bodies: list[str],
  seconds: float,
  alone: float,
  targets: Targets,
) -> tuple[list[list[str]], float]:
  """Returns a row for each load, and the capacity.

  Args:
    server: The server.
    bodies: The requests.
    seconds: The duration of each load.
    alone: The capacity without batches.
    targets: The object that checks the figures.
  """
  load(server, bodies, 2, 0, connections=48)  # Warms the server up.
  top = capacity(server, bodies, seconds)
  rows = [
    ['closed loop, no batches', '', f'{alone:.0f}', *[''] * 6],
    ['closed loop', '', f'{top:.0f}', *[''] * 6],
  ]
  for share in (0.5, 0.9, 4):
    samples = load(server, bodies, seconds, share * top)
    name = f'{share:.0%} of the capacity'
    rows.append([name, *summary(samples, seconds)])
    failed = sum(x.status not in (200, 429) for x in samples)
    targets.check(f'requests that failed or were lost at {name}', failed, 0)
  p99 = [float(row[4]) for row in rows[3:]]
  print(f'batching multiplies the capacity by {top / alone:.1f}')
  print(f'p99 at 4 times the capacity: {p99[1] / p99[0]:.2f} times that at 90%')
  targets.check(
    'p99 at 4 times the capacity, relative to 90%', p99[1] / p99[0], 2
  )
  return rows, top


def measure_changes(
  server: Server,
  bodies: list[str],
  rate: float,
  num_swaps: int,
  num_loads: int,
  targets: Targets,
) -> list[str]:
  """Changes the catalog and the model under load, and returns the findings."""
  vectors, known = _catalog(server.workdir)
  make_item = NewItems(vectors)
  catalogs = {1: set(known)}
  load(server, bodies, 2, rate)
  memory = [server.memory]

  def swap() -> None:
    # The load starts after this time.
    time.sleep(_LEAD_SECONDS + 0.5)
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
    samples += load(server, bodies, 5, rate, keep=True)
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
  return [
    f'{num_swaps} changes of the catalog and {num_loads} of the model at '
    f'{rate:.0f} requests/s: {failed} of {len(samples)} requests failed, '
    f'{mixed} answers had items of another catalog; memory '
    f'{memory[0]:.0f} MiB before and {memory[1]:.0f} MiB after',
    _measure_additions(server, bodies, rate, make_item, targets),
  ]


def _measure_additions(
  server: Server,
  bodies: list[str],
  rate: float,
  make_item: 'NewItems',
  targets: Targets,
) -> str:
  quiet = load(server, bodies, 5, rate)
  # Many more items than the catalog has do not fit into its arrays.
  num_new = min(1000, len(make_item.vectors) // 10)
  items = [make_item(f'added-{i}') for i in range(num_new)]
  seconds = []

  def add() -> None:
    time.sleep(_LEAD_SECONDS + 2)
    start = time.monotonic()
    server.ask('POST', '/admin/items', {'items': items}, admin=True)
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
    f'{num_new} new items: added in {seconds[0]:.2f} s; {reached} are '
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


def _catalog(
  workdir: Path,
) -> tuple[Float[np.ndarray, 'items dim'], tuple[str, ...]]:
  """Returns the vectors and the ids of the items."""
  trained = read_artifact(workdir, 'train')
  assert trained is not None
  data = Dataset.load(input_folder(trained, 'data'))
  ids = read_artifact(workdir, 'semantic_ids')
  assert ids is not None
  vectors = embedding.load(input_folder(ids, 'embedding'))
  return vectors.astype(np.float32), data.items.ids


def main() -> int:
  """Prints the tables; returns 1 if a figure misses its target."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', type=Path, default=Path('runs/quickstart'))
  parser.add_argument(
    '--quick', action='store_true', help='finish in 4 minutes'
  )
  parser.add_argument('--peer', action='store_true', help='also measure a T5')
  options = parser.parse_args()
  seconds, num_swaps, num_loads = (5, 10, 4) if options.quick else (30, 50, 20)
  print(f'{measuring.environment()}, {os.cpu_count()} cores')
  _, known = _catalog(options.workdir)
  rng = random.Random(0)
  bodies = [
    json.dumps({'history': rng.choices(known, k=rng.randint(2, 10)), 'k': _K})
    for _ in range(2000)
  ]
  targets = Targets()
  with running(options.workdir, max_batch=1) as server:
    alone = capacity(server, bodies, seconds)
  with running(options.workdir):
    pass  # The next start reads the compiled programs from the cache.
  with running(options.workdir) as server:
    print(f'from the start to the first answer: {server.start_seconds:.1f} s')
    targets.check('seconds to the first answer', server.start_seconds, 10)
    rows, top = measure_latency(server, bodies, seconds, alone, targets)
    header = [
      'load', 'sent/s', 'served/s', 'p50, ms', 'p99, ms', '429',
      'other errors', 'lost', 'late, ms',
    ]  # fmt: skip
    print(measuring.table(header, rows), flush=True)
    findings = measure_changes(
      server, bodies, top / 2, num_swaps, num_loads, targets
    )
    print(*findings, sep='\n')
  if options.peer:
    with running_peer(options.workdir) as server:
      theirs = capacity(server, bodies, seconds, connections=4)
    print(
      f'T5 with FastAPI: {theirs:.1f} requests/s, ours {top:.0f}, '
      f'{top / theirs:.1f} times as many'
    )
    targets.check(
      "the T5's requests per second, relative to ours", theirs / top, 0.1
    )
  for line in targets.missed:
    print(f'missed: {line}')
  return bool(targets.missed)


if __name__ == '__main__':
  sys.exit(main())
