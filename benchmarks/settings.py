"""Measures the training time of the settings that raise the accuracy.

  python -m benchmarks.settings --rounds=10

For each catalog size, the model of `configs/beauty.py:cpu` is trained in two
ways: with one forward pass per history, and with one forward pass per prefix of
a history. A row gives the step time with a setting, relative to the step time
with the paper's value of every setting. Semantic IDs and histories are random.
"""

import argparse
import sys

from absl import flags
import numpy as np

from benchmarks import catalogs, measuring, training
from configs import beauty
from configs.paper.specs import PAPERS_MODEL
from tiger_jax.config import config_dict
from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.semantic_ids.ids import SemanticIds

_EVENTS_PER_USER = 8
_LEVEL_SIZES = (256, 256, 256)
_SETTINGS = {
  'trie softmax': ('softmax',),
  'recency bias': ('recency_bias',),
  'prefix embeddings': ('prefix_embeddings',),
  'prefix heads': ('prefix_embeddings', 'prefix_heads'),
  'trie softmax, history bias': ('softmax', 'history_bias'),
  'all': tuple(PAPERS_MODEL),
}


def setup(num_items: int, num_rounds: int) -> training.Setup:
  """Returns random data in which most items occur, and the configs to train."""
  rng = np.random.default_rng(0)
  codes = catalogs.draw(num_items, _LEVEL_SIZES[0], len(_LEVEL_SIZES), False, 0)
  ids = SemanticIds(codes.astype(np.int32), _LEVEL_SIZES, len(_LEVEL_SIZES), {})
  num_users = max(20_000, num_items // 3)
  offsets = np.arange(num_users + 1) * _EVENTS_PER_USER
  history = rng.integers(0, num_items, offsets[-1], np.int32)
  names = tuple(map(str, range(num_users)))
  items = Items(tuple(map(str, range(num_items))), {})
  dataset = Dataset('random', items, names, history, offsets)
  config = config_dict.parse(beauty.get_config('cpu'))
  # The histories have one length.
  config = training.change(config, 'train', length_buckets=(10,))
  configs = {
    'per history': config,
    'per prefix': training.change(config, 'model', causal_encoder=False),
  }
  return training.Setup(dataset, ids, configs, num_rounds)


def measure(num_items: int, num_rounds: int) -> list[list[str]]:
  """Returns the rows of a catalog of `num_items` items."""
  rows = []
  inputs = setup(num_items, num_rounds)
  for form, config in inputs.configs.items():
    ours = config.model
    papers = training.change(config, 'model', **PAPERS_MODEL)
    sides = {'paper': training.Ours(inputs, papers)}
    for name, fields in _SETTINGS.items():
      values = {field: getattr(ours, field) for field in fields}
      sides[name] = training.Ours(
        inputs, training.change(papers, 'model', **values)
      )
    seconds, _ = training.time_steps(sides, num_rounds)
    for name in _SETTINGS:
      rows.append([
        f'{num_items:,}', form, name,
        measuring.spread(seconds[name] / seconds['paper']),
        measuring.spread(1000 * seconds[name], 1),
      ])  # fmt: skip
  return rows


def main() -> None:
  """Prints one row per catalog size, kind of forward pass, and setting."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--rounds', type=int, default=10)
  parser.add_argument(
    '--items', type=int, nargs='+', default=(12_101, 1_000_000)
  )
  options = parser.parse_args()
  flags.FLAGS.mark_as_parsed()  # Grain reads absl flags.
  measuring.use_cores(2)
  print(measuring.environment())
  rows = []
  for num_items in options.items:
    rows += measure(num_items, options.rounds)
  header = ['items', 'pass', 'setting', "step time / paper's", 'step, ms']
  print(measuring.table(header, rows))


if __name__ == '__main__':
  sys.exit(main())
