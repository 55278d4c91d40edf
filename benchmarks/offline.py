"""Compares the time of --mode=recommend_all with that of an evaluation.

  python -m benchmarks.offline --workdir=runs/quickstart --quick

Both sides search for 10 items for every user, with the same number of beams and
the same batch size. The evaluation reads the history of each user without the
test item, and keeps its lists in memory. The other side reads the whole
history, and writes Parquet files. Each round measures both sides in turn, in
processor seconds of all threads, which depend less on other programs than the
time on the clock. The benchmark also checks that the written lists equal those
of `Recommender.recommend_users`.

The command exits with 1 if the median ratio is above the target.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
import sys
import tempfile
import time

import numpy as np
import pandas as pd

from benchmarks import measuring
from tiger_jax.evaluation.ranking import (
  Search,
  Trained,
  rank,
  sample_users,
  split_users,
)
from tiger_jax.runtime import compile_cache
from tiger_jax.serving.offline.histories import RunHistories
from tiger_jax.serving.offline.job import recommend_all, search_part
from tiger_jax.serving.recommender import Options, Recommender
from tiger_jax.serving.search import Query

_TARGET = 1.2
_K = 10


def check(shop: Recommender, folder: Path) -> None:
  """Raises `Mismatch` unless lists in a folder equal those of `shop`."""
  table = pd.read_parquet(folder).set_index('user')
  assert shop.dataset is not None
  users = shop.dataset.user_ids[:128]
  for user, items in zip(users, shop.recommend_users(users, _K), strict=True):
    rows = table.loc[[user]]
    same = rows['item'].tolist() == [entry.item_id for entry in items]
    scores = [entry.score for entry in items]
    if not same or not np.allclose(rows['score'], scores, atol=1e-4):
      raise measuring.Mismatch(f'the lists of user {user} differ')


def measure(
  shop: Recommender, folder: Path, num_rounds: int
) -> dict[str, np.ndarray]:
  """Returns the processor seconds of both sides in every round."""
  model = shop.snapshot.model
  trained = Trained(model.session, model.params)
  examples = split_users(model.session, 'test')
  config = model.session.config.evaluation
  search = Search.from_config(config)
  sides: dict[str, Callable[[int], object]] = {
    'evaluation': lambda i: rank(trained, examples, _K, search),
    'recommend_all': lambda i: recommend_all(
      shop.snapshot, folder / str(i), k=_K
    ),
  }
  # Compiles the programs, one for each width of the histories.
  rank(trained, sample_users(examples, 1024, 0), _K, search)
  query = Query.of(shop.snapshot, _K, Options())
  part = RunHistories(shop.snapshot).read(0, 1024)
  search_part(query, part, config.batch_size, lambda _: None)
  seconds = {name: np.zeros(num_rounds) for name in sides}
  for i in range(num_rounds):
    for name in list(sides)[:: 1 if i % 2 else -1]:
      start = time.process_time()
      sides[name](i)
      seconds[name][i] = time.process_time() - start
  check(shop, folder / '0')
  return seconds


def main() -> int:
  """Prints the ratio; returns 1 if it misses the target."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', type=Path, default=Path('runs/quickstart'))
  parser.add_argument('--rounds', type=int, default=10)
  parser.add_argument('--quick', action='store_true', help='two rounds')
  options = parser.parse_args()
  compile_cache.use()
  print(measuring.environment())
  shop = Recommender.from_workdir(options.workdir)
  assert shop.dataset is not None
  with tempfile.TemporaryDirectory() as folder:
    seconds = measure(
      shop, Path(folder), 2 if options.quick else options.rounds
    )
  ratio = seconds['recommend_all'] / seconds['evaluation']
  header = ['users', 'evaluation, s', 'recommend_all, s', 'ratio']
  row = [
    f'{shop.dataset.num_users:,}',
    measuring.spread(seconds['evaluation'], 1),
    measuring.spread(seconds['recommend_all'], 1),
    measuring.spread(ratio),
  ]
  print(measuring.table(header, [row]))
  if np.median(ratio) > _TARGET:
    print(f'missed: the ratio is above {_TARGET}')
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
