"""Computes the resources that a large shop needs, from measured rates.

  python -m benchmarks.scale_plan

The rates are those of `benchmarks/RESULTS.md`. Times are in hours of one CPU
core. They assume that n cores are n times as fast as one.
"""

from pathlib import Path
from typing import NamedTuple

from benchmarks import measuring

ROOT = Path(__file__).parents[1]
_EVENTS_PER_USER = 10
# Ten machines with 16 cores each.
_CORES = 160


class Rates(NamedTuple):
  """The measured rates per second of one core, and sizes in bytes.

  Attributes:
    events: Events that are read from CSV files ("Data").
    items: Items whose codes are computed ("scale": half of the rate of two
      cores, for the RQ-VAE).
    targets: Training targets of `configs/beauty.py:cpu` ("one pass": half of
      the rate of two cores).
    users: Users in `--mode=recommend_all` ("Recommendations for all users").
    index: Bytes of the index per item ("Large catalogs").
    codes: Bytes of the codes of each row, per item ("Large catalogs").
    vector: Bytes of a vector of 384 float16 numbers.
    event: Bytes of an event in a history: an item row and a time.
    user: Bytes of the offset of a user's history.
    shard: Bytes of a training shard per history ("Training on shards").
    histories: Histories that are written to shards ("Training on shards").
  """

  events: float = 64_000
  items: float = 40_000
  targets: float = 2_845
  users: float = 529
  index: float = 6.0
  codes: float = 17
  vector: float = 768
  event: float = 12
  user: float = 8
  shard: float = 88
  histories: float = 176_000


def plan(num_items: int, num_users: int, rates: Rates) -> dict[str, float]:
  """Returns core-hours and gigabytes for a shop, by the name of the row."""
  num_events = _EVENTS_PER_USER * num_users
  hour = 3600
  read = num_events / rates.events / hour
  assign = num_items / rates.items / hour
  shard = num_users / rates.histories / hour
  train = num_events / rates.targets / hour
  recommend = num_users / rates.users / hour
  return {
    'read the events, core-hours': read,
    'histories, GB': (num_events * rates.event + num_users * rates.user) / 1e9,
    'vectors, GB': num_items * rates.vector / 1e9,
    'codes of all items, core-hours': assign,
    'index of valid IDs, GB': num_items * rates.index / 1e9,
    'codes of all rows, GB': num_items * rates.codes / 1e9,
    'write the training shards, core-hours': shard,
    'training shards, GB': num_users * rates.shard / 1e9,
    'one pass of training, core-hours': train,
    'recommend to all users, core-hours': recommend,
    'Beam pipelines on ten machines, hours': (read + shard + assign + recommend)
    / _CORES,
    'one pass of training on ten machines, hours': train / _CORES,
  }


def table(rates: Rates) -> str:
  """Returns the Markdown table of three shops."""
  sizes = (10**6, 10**8, 10**9)
  plans = [plan(size, size, rates) for size in sizes]
  rows = [[name, *(_number(x[name]) for x in plans)] for name in plans[0]]
  header = ['', *(f'{size:,} items and users' for size in sizes)]
  return measuring.table(header, rows)


def _number(value: float) -> str:
  return f'{value:,.0f}' if value >= 10 else f'{value:.2g}'


if __name__ == '__main__':
  print(table(Rates()))
