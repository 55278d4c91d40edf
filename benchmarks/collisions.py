"""Compares the rules for items with the same codes, on several shops."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from benchmarks import measuring
from tiger_jax.config.semantic_ids import COLLISIONS
from tiger_jax.semantic_ids import quality
from tiger_jax.semantic_ids.quantizers import rq_kmeans
from tiger_jax.semantic_ids.tokenizer import Tokenizer


def measure(
  data: Path, shops: Sequence[str], sizes: tuple[int, ...], num_rounds: int
) -> str:
  """Fits RQ-KMeans to the items of each shop, and applies every rule.

  Args:
    data: The data folder.
    shops: The names of the shops.
    sizes: The number of codes at each level.
    num_rounds: The number of timed rounds.

  Returns:
    A Markdown table.
  """
  rows = []
  for shop in shops:
    name = f'amazon2014_{shop}.all-MiniLM-L6-v2.float16.npy'
    # As in the embedding stage, convert to float32.
    x = np.load(data / 'embeddings' / name).astype(np.float32)
    rows += _rows(shop, x, sizes, num_rounds)
  header = [
    '', 'seconds', 'levels', 'mean squared distance', 'items moved',
    'remaining error', 'neighbor agreement by level',
  ]  # fmt: skip
  return measuring.table(header, rows)


def _rows(
  shop: str, x: np.ndarray, sizes: tuple[int, ...], num_rounds: int
) -> list[list[str]]:
  quantizer = rq_kmeans.fit(jax.random.key(0), x, sizes)
  tokenizers = {
    rule: Tokenizer(quantizer, rule, x.shape[1]) for rule in COLLISIONS
  }
  seconds = measuring.in_turns(
    {
      rule: lambda _, tokenizer=tokenizer: tokenizer.make_ids(x, {})
      for rule, tokenizer in tokenizers.items()
    },
    num_rounds,
    num_warm=1,
  )
  nearest = tokenizers['extra_code'].make_ids(x, {}).prefixes
  variance = x.var(axis=0, dtype=np.float64).sum()
  rows = []
  for rule, tokenizer in tokenizers.items():
    ids = tokenizer.make_ids(x, {})
    measured = quality.measure(ids, x, quantizer, [''] * len(x))
    error = measured['reconstruction_error'][-1]
    agreement = measured['neighbor_agreement']
    rows.append(
      [
        f'{shop}, {rule}',
        measuring.spread(seconds[rule]),
        str(len(ids.level_sizes)),
        # In RQ-KMeans, the squared distance from the last level's residual to
        # its code is the squared reconstruction error of the item.
        f'{error * variance:.5f}',
        f'{(ids.prefixes != nearest).any(axis=1).mean():.1%}',
        f'{error:.2%}',
        ' / '.join(f'{share:.2%}' for share in agreement),
      ]
    )
  return rows
