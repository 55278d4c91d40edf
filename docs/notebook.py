"""Runs the Colab notebook, and writes a copy with its outputs for the docs.

python -m docs.notebook
"""

import os
from pathlib import Path
import tempfile

import nbclient
import nbformat

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
  nbformat.write(notebook, COPY)
  print(f'wrote {COPY.relative_to(ROOT)}')


if __name__ == '__main__':
  main()
