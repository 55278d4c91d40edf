"""Sends requests to a server from processes of their own."""

import json
import subprocess
import sys
import time
from typing import NamedTuple

from benchmarks.http_server import Server

# One process can send about this many requests per second on time.
_RATE_PER_PROCESS = 600
# The time that the load generator processes have to start.
LEAD_SECONDS = 1.5
# In an open loop, the requests of this time are sent but not counted. During
# this time, the load generators compete for the cores and use their connections
# for the first time.
SETTLE_SECONDS = 1.0


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
  settle: float = SETTLE_SECONDS,
) -> list[Sample]:
  """Sends requests from separate processes, and returns the samples.

  Args:
    server: The server.
    bodies: The bodies of the requests, which are used in turn.
    seconds: The time during which requests are counted.
    rate: The requests per second, see `open_loop.Job`.
    connections: The number of connections of a closed loop.
    keep: Whether to keep the responses.
    settle: The time at the start of an open loop that is not counted.
  """
  settle = settle if rate else 0.0
  num_processes = max(1, min(4, round(rate / _RATE_PER_PROCESS)))
  start = time.time() + LEAD_SECONDS
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
      'seconds': settle + seconds,
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
  return [
    Sample(x.scheduled - settle, x.sent - settle, x.done - settle, *x[3:])
    for x in samples
    if x.scheduled >= settle
  ]
