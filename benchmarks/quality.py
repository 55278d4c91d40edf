"""How good the Semantic IDs of each quantizer are, on Beauty."""

from collections.abc import Sequence
import json
from pathlib import Path
import subprocess
import sys

from benchmarks import measuring

NAME = 'amazon2014_beauty'

# Rows of the table of quality: the quantizer, and the variant of the config.
QUANTIZERS = {
  'rq_vae': ('rq_vae', ''),
  'rq_vae_paper': ('rq_vae', ':paper'),
  'rq_kmeans': ('rq_kmeans', ''),
  'vq_vae': ('vq_vae', ''),
  'hierarchical_kmeans': ('hierarchical_kmeans', ''),
  'opq': ('opq', ''),
  'lsh': ('lsh', ''),
  'random': ('random', ''),
}


def measure(
  data: Path, workdir: Path, names: Sequence[str], paper_epochs: int
) -> str:
  """Runs the stage of the Semantic IDs, and lays out what it says.

  Args:
    data: The folder of data.
    workdir: Of the runs.
    names: Which of `QUANTIZERS`.
    paper_epochs: Epochs of `rq_vae_paper`.

  Returns:
    A table.
  """
  workdir.mkdir(exist_ok=True)
  rows = []
  for name in names:
    quantizer, variant = QUANTIZERS[name]
    command = [
      sys.executable, '-m', 'tiger_jax.main', '--mode=semantic_ids',
      f'--config=configs/beauty.py{variant}',
      f'--workdir={workdir}',
      f'--config.dataset.source_dir={data / NAME}',
      '--config.embedding.encoder=precomputed',
      f'--config.embedding.path={embeddings_file(data)}',
      f'--config.embedding.ids_path={data / "embeddings" / NAME}.asins.json',
      f'--config.semantic_ids.quantizer={quantizer}',
    ]  # fmt: skip
    if variant:
      command.append(f'--config.semantic_ids.epochs={paper_epochs}')
    with (workdir / f'{name}.log').open('w') as log:
      # What is done already is kept by the program itself.
      ended = subprocess.run(command, stdout=log, stderr=log, check=False)
    if ended.returncode:
      reason = (workdir / f'{name}.log').read_text().splitlines()[-1]
      raise RuntimeError(f'{" ".join(command)}\n{reason}')
    rows.append([name, *row(workdir / 'semantic_ids')])
  header = [
    '', 'seconds', 'usage by level', 'distinct prefixes', 'items colliding',
    'worst collision', 'error left', 'category purity at 1 code (chance)',
    'neighbour agreement by level', 'chance',
  ]  # fmt: skip
  return measuring.table(header, rows)


def row(folder: Path) -> list[str]:
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


def embeddings_file(data: Path) -> Path:
  """Returns the file of item vectors."""
  return data / 'embeddings' / f'{NAME}.all-MiniLM-L6-v2.float16.npy'
