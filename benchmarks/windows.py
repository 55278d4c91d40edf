"""Prints the share of training targets with a shortened history.

A history longer than `model.max_history` is cut into windows. Targets at the
start of a window therefore have fewer earlier items than without the cut.

  python -m benchmarks.windows runs/beauty runs/sports runs/toys

Each argument is a workdir with a finished data stage.
"""

import argparse
from pathlib import Path
import sys

import numpy as np

from benchmarks import measuring
from tiger_jax.data import splits
from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import TigerError

_MAX_HISTORIES = (10, 20, 50)


def main() -> None:
  """Prints a table with one row per workdir."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('workdir', nargs='+', type=Path)
  rows = []
  for workdir in parser.parse_args().workdir:
    try:
      dataset = Dataset.load(workdir / 'data')
    except TigerError as error:
      sys.exit(f'error: {error}')
    shares = (shortened(dataset, size) for size in _MAX_HISTORIES)
    rows.append([dataset.name, *(f'{share:.1%}' for share in shares)])
  header = [f'max_history {size}' for size in _MAX_HISTORIES]
  print(measuring.table(['', *header], rows))


def shortened(dataset: Dataset, max_history: int) -> float:
  """Returns the share of targets with a shortened history.

  Args:
    dataset: The dataset.
    max_history: The maximum number of items that a model reads.
  """
  windows = splits.sequences(dataset, max_history)
  lengths = splits.history_lengths(windows)
  # A window has one target for each of its prefixes of 1, 2, ... items.
  prefixes = np.arange(lengths.sum()) - np.repeat(
    np.cumsum(lengths) - lengths, lengths
  )
  in_window = prefixes + 1
  before = np.repeat(windows.start - dataset.offsets[windows.user], lengths)
  available = np.minimum(before + in_window, max_history)
  return float(np.mean(available > in_window))


if __name__ == '__main__':
  main()
