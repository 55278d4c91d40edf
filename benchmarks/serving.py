"""Measures the HTTP server under load: latency, overload, batches and swaps.

  python -m benchmarks.serving --workdir=runs/quickstart --quick

The server and the processes that send the requests share the cores of the
machine. Requests are sent at times drawn beforehand (a Poisson process), and
latency is counted from these times. `late` is the 99th percentile of the time
from the scheduled time of a request until the request is sent, in milliseconds.
The load generator causes this delay, and the latency includes the delay. With
`--peers`, the command also measures FastAPI servers of Hugging Face's T5 and of
Cornac's TIGER, which need the extra `bench`.

The command exits with 1 if a figure misses its target, and names the figure.
"""

import argparse
import json
import os
from pathlib import Path
import random
import sys

import numpy as np

from benchmarks import measuring
from benchmarks.http_server import Server, running, running_peer
from benchmarks.server_changes import measure_changes, read_catalog
from benchmarks.server_load import Sample, Targets, load

_K = 10


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


def main() -> int:
  """Prints the tables; returns 1 if a figure misses its target."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', type=Path, default=Path('runs/quickstart'))
  parser.add_argument(
    '--quick', action='store_true', help='finish in 4 minutes'
  )
  parser.add_argument(
    '--peers', action='store_true', help='also measure other libraries'
  )
  options = parser.parse_args()
  seconds, num_swaps, num_loads = (5, 10, 4) if options.quick else (30, 50, 20)
  print(f'{measuring.environment()}, {os.cpu_count()} cores')
  _, known = read_catalog(options.workdir)
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
    measure_changes(server, bodies, top / 2, num_swaps, num_loads, targets)
  for peer in ('hf_t5', 'cornac') if options.peers else ():
    with running_peer(peer, options.workdir) as server:
      theirs = capacity(server, bodies, seconds, connections=4)
    print(
      f'{peer} with FastAPI: {theirs:.1f} requests/s, ours {top:.0f}, '
      f'{top / theirs:.1f} times as many'
    )
    targets.check(
      f'requests per second of {peer}, relative to ours', theirs / top, 0.1
    )
  for line in targets.missed:
    print(f'missed: {line}')
  return bool(targets.missed)


if __name__ == '__main__':
  sys.exit(main())
