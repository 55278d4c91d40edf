"""Measures the quality of the Semantic IDs of each quantizer on Beauty."""

from collections.abc import Sequence
import json
from pathlib import Path
import subprocess
import sys

import numpy as np

from benchmarks import measuring
from tiger_jax.stages import semantic_ids

NAME = 'amazon2014_beauty'
# The number of epochs of the clipping runs. The paper's recipe has 20,000.
_CLIPPING_EPOCHS = 100

# The quantizer and the variant of configs/beauty.py for each row of the quality
# table.
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
  """Runs the semantic_ids stage with each quantizer.

  Args:
    data: The data folder.
    workdir: The workdir of the runs.
    names: The rows of `QUANTIZERS` to measure.
    paper_epochs: The number of epochs of `rq_vae_paper`.

  Returns:
    A Markdown table.
  """
  rows = []
  for name in names:
    quantizer, variant = QUANTIZERS[name]
    changes = [f'quantizer={quantizer}']
    if variant:
      changes.append(f'epochs={paper_epochs}')
    folder = _make_ids(data, workdir, name, variant, changes)
    rows.append([name, *row(folder)])
  header = [
    '', 'seconds', 'usage by level', 'distinct prefixes', 'items colliding',
    'worst collision', 'error left', 'category purity at 1 code (chance)',
    'neighbor agreement by level', 'chance',
  ]  # fmt: skip
  return measuring.table(header, rows)


def clipping(data: Path, workdir: Path) -> str:
  """Trains the RQ-VAE with the paper's recipe and three clipping norms.

  Args:
    data: The data folder.
    workdir: The parent of the workdirs, one per norm.

  Returns:
    A Markdown table.
  """
  rows = []
  for clip_norm in ('1', '100', '1e9'):
    changes = [
      f'epochs={_CLIPPING_EPOCHS}',
      f'optimizer.clip_norm={clip_norm}',
    ]
    run = workdir / f'clip_norm_{clip_norm}'
    folder = _make_ids(data, run, 'rq_vae_paper', ':paper', changes)
    lines = (run / 'metrics.jsonl').read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    norm = np.median([x['gradient_norm'] for x in logged if 'loss' in x])
    quality = json.loads((folder / 'quality.json').read_text())
    rows.append(
      [
        clip_norm,
        f'{norm:.1f}' if norm < 1e3 else f'{norm:.1e}',
        f'{logged[-1]["reconstruction"]:.1f}',
        _percent(*quality['usage']),
        _percent(quality['unique_prefix_rate'][-1]),
      ]
    )
  header = [
    'clip_norm', 'median gradient norm', 'reconstruction error',
    'usage by level', 'distinct prefixes',
  ]  # fmt: skip
  return measuring.table(header, rows)


def _make_ids(
  data: Path, workdir: Path, name: str, variant: str, changes: Sequence[str]
) -> Path:
  """Runs the semantic_ids stage, and returns its folder.

  Args:
    data: The data folder.
    workdir: The workdir of the run.
    name: The name of the log file.
    variant: The variant of `configs/beauty.py`, for example `:paper`.
    changes: Changes to `config.semantic_ids`, for example `epochs=3`.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  command = [
    sys.executable, '-m', 'tiger_jax.main', '--mode=semantic_ids',
    f'--config=configs/beauty.py{variant}',
    f'--workdir={workdir}',
    f'--config.dataset.source_dir={data / NAME}',
    '--config.embedding.encoder=precomputed',
    f'--config.embedding.path={embeddings_file(data)}',
    f'--config.embedding.ids_path={data / "embeddings" / NAME}.asins.json',
    *(f'--config.semantic_ids.{change}' for change in changes),
  ]  # fmt: skip
  with (workdir / f'{name}.log').open('w') as log:
    # The command does not repeat finished stages.
    process = subprocess.run(command, stdout=log, stderr=log, check=False)
  if process.returncode:
    reason = (workdir / f'{name}.log').read_text().splitlines()[-1]
    raise RuntimeError(f'{" ".join(command)}\n{reason}')
  return workdir / 'semantic_ids'


def row(folder: Path) -> list[str]:
  """Returns a table row with the quality that a finished stage recorded."""
  quality = semantic_ids.load_quality(folder)
  record = json.loads((folder / 'stage.json').read_text())
  # `reconstruction_error` is None for quantizers without a reconstruction.
  error = (quality['reconstruction_error'] or [None])[-1]
  return [
    f'{record["seconds"]:.1f}',
    _percent(*quality['usage']),
    _percent(quality['unique_prefix_rate'][-1]),
    _percent(quality['collision_rate'][-1]),
    str(quality['worst_collision']),
    '-' if error is None else _percent(error),
    f'{_percent(quality["category_purity"][0])} '
    f'({_percent(quality["category_purity_by_chance"][0])})',
    _percent(*quality['neighbor_agreement']),
    _percent(*quality['neighbor_agreement_by_chance']),
  ]


def _percent(*shares: float) -> str:
  return ' / '.join(f'{share:.1%}' for share in shares)


def embeddings_file(data: Path) -> Path:
  """Returns the file of item vectors."""
  return data / 'embeddings' / f'{NAME}.all-MiniLM-L6-v2.float16.npy'
