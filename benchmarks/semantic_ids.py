"""Semantic IDs, measured: quality, speed against peers, and scale.

  pip install -e '.[bench]'
  python -m benchmarks.semantic_ids --data=FOLDER

FOLDER holds `amazon2014_beauty/` with the raw files, and `embeddings/` with
`amazon2014_beauty.all-MiniLM-L6-v2.float16.npy` and the item of each of its
rows, `amazon2014_beauty.asins.json`. What is printed are the sections of
`benchmarks/RESULTS.md`; --section chooses among them, and only `kmeans` and
`training` need the peers that the extra installs.
"""

from collections.abc import Sequence
import json
from pathlib import Path
import subprocess
import sys

from absl import app, flags, logging
import numpy as np

from benchmarks import measuring, rq_kmeans, rq_vae_training, scale

_NAME = 'amazon2014_beauty'

# The peers of each section, whose versions are printed.
_SECTIONS = {
  'quality': [],
  'kmeans': ['faiss-cpu'],
  'training': ['torch'],
  'scale': [],
}

# Rows of the table of quality: the quantizer, and the variant of the config.
_QUANTIZERS = {
  'rq_vae': ('rq_vae', ''),
  'rq_vae_paper': ('rq_vae', ':paper'),
  'rq_kmeans': ('rq_kmeans', ''),
  'vq_vae': ('vq_vae', ''),
  'hierarchical_kmeans': ('hierarchical_kmeans', ''),
  'opq': ('opq', ''),
  'lsh': ('lsh', ''),
  'random': ('random', ''),
}

_DATA = flags.DEFINE_string('data', None, 'The folder of data.', required=True)
_SCRATCH = flags.DEFINE_string(
  'scratch', 'runs/benchmarks', 'Gets workdirs, and large files for a while.'
)
_SECTION = flags.DEFINE_multi_enum(
  'section', list(_SECTIONS), list(_SECTIONS), 'What to measure.'
)
_QUANTIZER = flags.DEFINE_multi_enum(
  'quantizer', list(_QUANTIZERS), list(_QUANTIZERS), 'Rows of the quality.'
)
_PAPER_EPOCHS = flags.DEFINE_integer(
  'paper_epochs', 20_000, 'Epochs of rq_vae_paper, which take hours on a CPU.'
)
_ROUNDS = flags.DEFINE_integer(
  'rounds', 20, 'Rounds of what is timed in turns.'
)
_SEEDS = flags.DEFINE_integer('seeds', 5, 'Seeds of k-means.')
_THREADS = flags.DEFINE_integer('threads', 2, 'Cores that each side may use.')
_ITEMS = flags.DEFINE_multi_integer(
  'items', [100_000, 1_000_000, 10_000_000], 'Catalogues of the scale.'
)


def main(argv: Sequence[str]) -> None:
  """Prints the sections asked for."""
  if len(argv) > 1:
    raise app.UsageError(f'what is {argv[1]!r}? Flags begin with --')
  logging.set_verbosity(logging.ERROR)  # JAX tells of missing accelerators.
  measuring.use_cores(_THREADS.value)
  scratch = Path(_SCRATCH.value)
  scratch.mkdir(parents=True, exist_ok=True)
  for section in _SECTION.value:
    print(f'## {section}\n')
    print(f'    python -m benchmarks.semantic_ids {" ".join(sys.argv[1:])}\n')
    print(measuring.environment(*_SECTIONS[section]) + '\n')
    print(_measure(section, Path(_DATA.value), scratch) + '\n', flush=True)


def _measure(section: str, data: Path, scratch: Path) -> str:
  if section == 'quality':
    return _quality(data, scratch / 'beauty')
  if section == 'scale':
    return scale.measure(scratch, _ITEMS.value, _ROUNDS.value)
  # As the stage before keeps them.
  embeddings = np.load(_embeddings(data)).astype(np.float32)
  if section == 'kmeans':
    return rq_kmeans.measure(embeddings, _SEEDS.value, _THREADS.value)
  return rq_vae_training.measure(embeddings, _ROUNDS.value, _THREADS.value)


def _quality(data: Path, workdir: Path) -> str:
  """Runs the stage of the Semantic IDs with every quantizer."""
  workdir.mkdir(exist_ok=True)
  rows = []
  for name in _QUANTIZER.value:
    quantizer, variant = _QUANTIZERS[name]
    command = [
      sys.executable, '-m', 'tiger_jax.main', '--mode=semantic_ids',
      f'--config=configs/beauty.py{variant}',
      f'--workdir={workdir}',
      f'--config.dataset.source_dir={data / _NAME}',
      '--config.embedding.encoder=precomputed',
      f'--config.embedding.path={_embeddings(data)}',
      f'--config.embedding.ids_path={data / "embeddings" / _NAME}.asins.json',
      f'--config.semantic_ids.quantizer={quantizer}',
    ]  # fmt: skip
    if variant:
      command.append(f'--config.semantic_ids.epochs={_PAPER_EPOCHS.value}')
    with (workdir / f'{name}.log').open('w') as log:
      # What is done already is kept by the program itself.
      ended = subprocess.run(command, stdout=log, stderr=log, check=False)
    if ended.returncode:
      reason = (workdir / f'{name}.log').read_text().splitlines()[-1]
      raise RuntimeError(f'{" ".join(command)}\n{reason}')
    rows.append([name, *_row(workdir / 'semantic_ids')])
  header = [
    '', 'seconds', 'usage by level', 'distinct prefixes', 'items colliding',
    'worst collision', 'error left', 'category purity at 1 code (chance)',
    'neighbour agreement by level', 'chance',
  ]  # fmt: skip
  return measuring.table(header, rows)


def _row(folder: Path) -> list[str]:
  """Returns what a finished stage says about its IDs."""
  found = json.loads((folder / 'quality.json').read_text())
  record = json.loads((folder / 'stage.json').read_text())
  # None, where the codes stand for nothing.
  left = (found['reconstruction_error'] or [None])[-1]
  return [
    f'{record["seconds"]:.1f}',
    _percent(*found['usage']),
    _percent(found['unique_prefix_rate'][-1]),
    _percent(found['collision_rate'][-1]),
    str(found['worst_collision']),
    '-' if left is None else _percent(left),
    f'{_percent(found["category_purity"][0])} '
    f'({_percent(found["category_purity_by_chance"][0])})',
    _percent(*found['neighbour_agreement']),
    _percent(*found['neighbour_agreement_by_chance']),
  ]


def _percent(*shares: float) -> str:
  return ' / '.join(f'{share:.1%}' for share in shares)


def _embeddings(data: Path) -> Path:
  return data / 'embeddings' / f'{_NAME}.all-MiniLM-L6-v2.float16.npy'


if __name__ == '__main__':
  app.run(main)
