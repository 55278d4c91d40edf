"""Benchmarks of Semantic IDs: quality, speed against peers, and scale.

  pip install -e '.[bench]'
  python -m benchmarks.semantic_ids --data=FOLDER

FOLDER holds `amazon2014_beauty/` with the raw files, and `embeddings/` with
`amazon2014_beauty.all-MiniLM-L6-v2.float16.npy` and the item ids of its rows,
`amazon2014_beauty.asins.json`. The output has the form of the sections of
`benchmarks/RESULTS.md`; --section selects some of them. For `collisions`,
`embeddings/` must also hold the vectors of every further shop in --shop. Only
`kmeans` and `training` need the peers that the extra `bench` installs.
"""

from collections.abc import Sequence
from pathlib import Path
import sys

from absl import app, flags, logging
import numpy as np

from benchmarks import (
  collisions,
  measuring,
  quality,
  rq_kmeans,
  rq_vae_training,
  tokenizer_scale,
)

# For each section, the packages whose versions are printed.
_SECTIONS = {
  'quality': [],
  'collisions': ['scipy'],
  'clipping': [],
  'kmeans': ['faiss-cpu'],
  'training': ['torch'],
  'scale': [],
}

_DATA = flags.DEFINE_string('data', None, 'The data folder.', required=True)
_SCRATCH = flags.DEFINE_string(
  'scratch', 'runs/benchmarks', 'The folder for workdirs and temporary files.'
)
_SECTION = flags.DEFINE_multi_enum(
  'section', list(_SECTIONS), list(_SECTIONS), 'The sections to measure.'
)
_QUANTIZER = flags.DEFINE_multi_enum(
  'quantizer',
  list(quality.QUANTIZERS),
  list(quality.QUANTIZERS),
  'The rows of section quality.',
)
_PAPER_EPOCHS = flags.DEFINE_integer(
  'paper_epochs', 20_000, 'The epochs of rq_vae_paper (hours on a CPU).'
)
_SHOP = flags.DEFINE_multi_enum(
  'shop',
  ['beauty', 'toys'],
  ['beauty', 'toys', 'sports'],
  'The shops of section collisions.',
)
_CODES = flags.DEFINE_integer(
  'codes', 256, 'The codes at each of the three levels of section collisions.'
)
_ROUNDS = flags.DEFINE_integer('rounds', 20, 'The number of timed rounds.')
_SEEDS = flags.DEFINE_integer('seeds', 5, 'The number of seeds of k-means.')
_THREADS = flags.DEFINE_integer('threads', 2, 'The number of cores to use.')
_ITEMS = flags.DEFINE_multi_integer(
  'items', [100_000, 1_000_000, 10_000_000], 'The catalog sizes of scale.'
)


def main(argv: Sequence[str]) -> None:
  """Prints the selected sections."""
  if len(argv) > 1:
    raise app.UsageError(
      f'unexpected argument {argv[1]!r}: flags begin with --'
    )
  logging.set_verbosity(logging.ERROR)  # JAX warns about missing accelerators.
  measuring.use_cores(_THREADS.value)
  scratch = Path(_SCRATCH.value)
  scratch.mkdir(parents=True, exist_ok=True)
  for section in _SECTION.value:
    print(f'### {section}\n')
    print(f'    python -m benchmarks.semantic_ids {" ".join(sys.argv[1:])}\n')
    print(measuring.environment(*_SECTIONS[section]) + '\n')
    print(_measure(section, Path(_DATA.value), scratch) + '\n', flush=True)


def _measure(section: str, data: Path, scratch: Path) -> str:
  if section == 'quality':
    return quality.measure(
      data, scratch / 'beauty', _QUANTIZER.value, _PAPER_EPOCHS.value
    )
  if section == 'collisions':
    sizes = (_CODES.value,) * 3
    return collisions.measure(data, _SHOP.value, sizes, _ROUNDS.value)
  if section == 'clipping':
    return quality.clipping(data, scratch)
  if section == 'scale':
    return tokenizer_scale.measure(scratch, _ITEMS.value, _ROUNDS.value)
  # Converts to float32, as the embedding stage does.
  embeddings = np.load(quality.embeddings_file(data)).astype(np.float32)
  if section == 'kmeans':
    return rq_kmeans.measure(embeddings, _SEEDS.value, _THREADS.value)
  return rq_vae_training.measure(embeddings, _ROUNDS.value, _THREADS.value)


if __name__ == '__main__':
  app.run(main)
