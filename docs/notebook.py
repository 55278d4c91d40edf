"""Runs the Colab notebook, and writes a copy with its outputs for the docs.

python -m docs.notebook
"""

import dataclasses
import os
from pathlib import Path
import re
import tempfile

import nbclient
import nbformat

import tiger_jax
from tiger_jax.storage.fingerprints import fingerprint

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / 'launch' / 'tiger_colab.ipynb'
COPY = ROOT / 'docs' / 'colab.ipynb'


def execute(notebook: nbformat.NotebookNode, folder: str | Path) -> None:
  """Runs a notebook in a folder.

  The install cell is skipped, because it is only for Colab.
  """
  client = nbclient.NotebookClient(
    notebook,
    timeout=3600,
    kernel_name='python3',
    skip_cells_with_tag='install',
    resources={'metadata': {'path': str(folder)}},
  )
  environment = os.environ | {
    'PYTHONPATH': str(ROOT),
    'IPYTHONDIR': os.path.join(folder, 'ipython'),
  }
  client.execute(env=environment)


def config_digest(notebook: nbformat.NotebookNode) -> str:
  """Returns the sha256 of the configs that a notebook names."""
  source = '\n'.join(cell.source for cell in notebook.cells)
  names = sorted(set(re.findall(r"'(configs/.+?)'", source)))
  return fingerprint(
    *(dataclasses.asdict(tiger_jax.load_config(x)) for x in names)
  )


def main() -> None:
  """Writes `docs/colab.ipynb`."""
  notebook = nbformat.read(SOURCE, as_version=4)
  with tempfile.TemporaryDirectory() as folder:
    execute(notebook, folder)
  for cell in notebook.cells:
    # The execution times and the metadata of outputs differ in every run.
    cell.metadata.pop('execution', None)
    for output in cell.get('outputs', ()):
      output.get('metadata', {}).clear()
  notebook.metadata.config_digest = config_digest(notebook)
  nbformat.write(notebook, COPY)
  print(f'wrote {COPY.relative_to(ROOT)}')


if __name__ == '__main__':
  main()
