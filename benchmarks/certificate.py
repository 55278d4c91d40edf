"""Measures how many results a beam search proves, and how long it takes."""

from collections.abc import Callable, Sequence
from pathlib import Path
import time
from typing import Any

import jax
import numpy as np

from benchmarks import measuring
from tiger_jax.config.recorded import config_of
from tiger_jax.data import batches
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import Examples, split
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.stages import training
from tiger_jax.storage.artifacts import read_artifact

_K = 10
_NUM_USERS = 1024
_BATCH_SIZE = 128


def measure(
  workdir: Path,
  beams: Sequence[int],
  record: Callable[[dict[str, Any]], None],
) -> str:
  """Counts the results that searches of a trained model prove to be the best.

  Args:
    workdir: The workdir of a run that has finished training.
    beams: The numbers of beams to search with.
    record: A function that stores a measurement.

  Returns:
    A Markdown table.
  """
  trained = read_artifact(workdir, 'train')
  if trained is None:
    raise SystemExit(f'{workdir} has no finished training: run --mode=train')
  config = config_of(trained)
  ids = SemanticIds.load(workdir / 'semantic_ids')
  dataset = Dataset.load(workdir / 'data')
  session = Session.open(config, Inputs(dataset, ids))
  params = training.load_served(session, trained.folder).params
  users = np.random.default_rng(0).permutation(dataset.num_users)[:_NUM_USERS]
  examples = Examples(*(x[np.sort(users)] for x in split(dataset, 'test')))
  requests = list(
    batches.evaluation_batches(
      dataset, examples, _BATCH_SIZE, config.train.length_buckets
    )
  )
  rows, exact = [], {}
  for num_beams in [*beams, None]:
    retriever = session.retriever
    assert isinstance(retriever, TigerRetriever)
    search = retriever.search_exact if num_beams is None else retriever.search

    def run(batch, search=search, num_beams=num_beams or beams[1]):
      return jax.device_get(search(params, batch, _K, num_beams=num_beams))

    for batch in requests:
      run(batch)  # Compiles.
    start = time.perf_counter()
    results = [run(batch) for batch in requests]
    seconds = (time.perf_counter() - start) / len(users)
    is_user = np.concatenate([np.asarray(b.target) >= 0 for b in requests])
    proven = np.concatenate([np.minimum(x.exact_k, _K) for x in results])
    proven = proven[is_user]
    items = np.concatenate([x.items[:, :_K] for x in results])[is_user]
    exact[num_beams] = items
    rows.append([num_beams, proven, seconds])
  best = exact[None]
  # The users whose top 10 the exact search proved.
  known = rows[-1][1] == _K
  table = []
  for num_beams, proven, seconds in rows:
    same = (exact[num_beams] == best).all(1)[known]
    record({
      'section': 'certificate', 'beams': num_beams,
      'proven': float((proven == _K).mean()), 'mean': float(proven.mean()),
      'same': float(same.mean()), 'ms': 1000 * seconds,
    })  # fmt: skip
    table.append([
      num_beams or f'{beams[1]}, then more until proven',
      f'{(proven == _K).mean():.1%}', f'{proven.mean():.2f}',
      f'{same.mean():.1%}', f'{1000 * seconds:.1f}',
    ])  # fmt: skip
  header = [
    'beams', f'users with a proven top {_K}',
    'mean number of proven results', f'top {_K} is correct', 'ms per user',
  ]  # fmt: skip
  return measuring.table(header, table)
