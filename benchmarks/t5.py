"""Compares whole requests with Hugging Face's T5 and its `generate`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Int
import numpy as np

from benchmarks import measuring, requests
from tiger_jax.config import ModelConfig
from tiger_jax.data import splits
from tiger_jax.data.dataset import Dataset
from tiger_jax.interfaces import Batch
from tiger_jax.retrieval.tiger import TigerRetriever

# The length buckets of the default config.
_WIDTHS = (5, 10, 20)


def measure(
  workdir: Path | None,
  beams: Sequence[int],
  num_rounds: int,
  num_threads: int,
  record: Callable[[dict[str, Any]], None],
) -> str:
  """Times our requests against Hugging Face's T5 with the same weights.

  Both sides recommend for the same users. The batches of T5 have the users in
  the order of the data, and are padded to their longest history. Our batches
  have users with histories of similar length, as in evaluation.

  Args:
    workdir: The run whose catalog and test users are used. If None, the catalog
      and the histories (20 items) are random.
    beams: The numbers of beams to search with.
    num_rounds: The number of timed rounds.
    num_threads: The number of threads of PyTorch.
    record: A function that stores a measurement.

  Returns:
    A Markdown table.
  """
  import torch

  from benchmarks.peers.hf_t5 import HfTiger

  torch.set_num_threads(num_threads)
  config = ModelConfig()
  shop = requests.open_shop(config, requests.ids_of(workdir))
  model = shop.retriever.model
  peer = HfTiger(model, shop.params, shop.codes, model.level_sizes)
  rows = []
  for batch_size, num_users in ((1, 16), (16, 64)):
    users = shop.batch(num_users, config.max_history)
    if workdir:
      users = _test_users(workdir, num_users, config.max_history)
    sorted_rows, ours = _by_length(users, batch_size)
    theirs = [
      Batch(*(x[i : i + batch_size] for x in users))
      for i in range(0, num_users, batch_size)
    ]
    for num_beams in beams:
      wide = TigerRetriever(model, shop.retriever.catalog, num_beams)

      def run_ours(wide=wide, ours=ours):
        results = [wide.search(shop.params, batch, 10) for batch in ours]
        return jax.block_until_ready(results)

      def run_theirs(num_beams=num_beams, theirs=theirs):
        return [peer.recommend(batch, num_beams, 10) for batch in theirs]

      results = jax.device_get(run_ours())
      items, scores = (
        np.concatenate(x) for x in zip(*run_theirs(), strict=True)
      )
      order = np.concatenate(sorted_rows)
      is_user = order >= 0
      difference = requests.compare(
        np.concatenate([x.items[:, :10] for x in results])[is_user],
        items[order[is_user]],
        np.concatenate([x.scores[:, :10] for x in results])[is_user],
        scores[order[is_user]],
      )
      seconds = measuring.in_turns(
        {'ours': lambda i: run_ours(), 'theirs': lambda i: run_theirs()},
        num_rounds,
      )
      ratio = seconds['theirs'] / seconds['ours']
      label = f'{num_users} users, batches of {batch_size}, {num_beams} beams'
      record({
        'section': 't5', 'what': label, 'ratio': measuring.percentiles(ratio)
      })  # fmt: skip
      per_second = [f'{num_users / np.median(x):.1f}' for x in seconds.values()]
      rows.append([
        label, measuring.spread(ratio, 1, ends=10), *per_second,
        f'{difference:.0e}',
      ])  # fmt: skip
  header = ['T5 / ours', 'whole request', 'users/s, ours', 'users/s, T5',
            'scores differ by']  # fmt: skip
  return measuring.table(header, rows)


def _test_users(workdir: Path, num_users: int, num_items: int) -> Batch:
  """Returns a random sample of the test users, in the order of the data."""
  dataset = Dataset.load(workdir / 'data')
  drawn = np.random.default_rng(0).permutation(dataset.num_users)[:num_users]
  return splits.gather(
    dataset.history, splits.split(dataset, 'test').at(np.sort(drawn)), num_items
  )


def _by_length(
  users: Batch, batch_size: int
) -> tuple[list[Int[np.ndarray, ' b']], list[Batch]]:
  """Groups users by history length.

  Returns:
    A list of the user indices of each batch, padded with -1, and a list of the
    batches.
  """
  lengths = (users.history >= 0).sum(1)
  buckets = np.searchsorted(_WIDTHS, lengths)
  indices, batches = [], []
  for bucket, width in enumerate(_WIDTHS):
    members = np.flatnonzero(buckets == bucket)
    for start in range(0, len(members), batch_size):
      rows = np.full(batch_size, -1)
      part = members[start : start + batch_size]
      rows[: len(part)] = part
      none = np.full(batch_size, -1, np.int32)
      history = np.where(rows[:, None] >= 0, users.history[rows, :width], -1)
      indices.append(rows)
      batches.append(Batch(history.astype(np.int32), none, none))
  return indices, batches
