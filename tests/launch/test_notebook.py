"""Tests that the notebook runs, and that it is stored without outputs."""

import os
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.small import ROOT

PATH = ROOT / 'launch' / 'tiger_colab.ipynb'
# Settings that shorten the training runs of the notebook, by the text that they
# replace.
SHORT = {
  "'train.steps': 1000": "'train.steps': 30, 'dataset.synthetic_users': 300, "
  "'train.batch_size': 64, 'train.optimizer.warmup_steps': 5",
  "'train.evaluate_every': 200": "'train.evaluate_every': 10",
  "'train.steps': 300": "'train.steps': 40",
  "'train.evaluate_every': 100": "'train.evaluate_every': 20",
}


@pytest.fixture(name='notebook')
def _notebook():
  return nbformat.read(PATH, as_version=4)


def execute(notebook, folder, monkeypatch):
  """Runs the cells in a kernel; the install cell is for Colab only."""
  monkeypatch.setenv('PYTHONPATH', str(ROOT))
  monkeypatch.setenv('IPYTHONDIR', str(folder / 'ipython'))
  client = nbclient.NotebookClient(
    notebook,
    timeout=1200,
    kernel_name='python3',
    skip_cells_with_tag='install',
    resources={'metadata': {'path': str(folder)}},
  )
  client.execute()
  return [
    ''.join(x.get('text', '') for x in cell.get('outputs', ()))
    for cell in notebook.cells
  ]


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_every_cell_runs(notebook, tmp_path, monkeypatch):
  text = nbformat.writes(notebook)
  for long, short in SHORT.items():
    assert long in text
    text = text.replace(long, short)
  texts = '\n'.join(
    execute(nbformat.reads(text, as_version=4), tmp_path, monkeypatch)
  )
  for expected in ('recall@10: ', 'all proven: True', 'temperature 3.0',
                   'For user u0'):  # fmt: skip
    assert expected in texts
  assert (tmp_path / 'runs/my_shop/results.json').exists()


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_the_notebook_as_it_is(notebook, tmp_path, monkeypatch):
  texts = execute(notebook, tmp_path, monkeypatch)
  recall = next(x for x in texts if 'recall@10: ' in x)
  assert float(recall.split('recall@10: ')[1].split()[0]) > 0.4


def test_is_stored_without_outputs(notebook):
  for cell in notebook.cells:
    assert not cell.get('outputs') and cell.get('execution_count') is None
  tags = [cell.metadata.get('tags', ()) for cell in notebook.cells]
  assert sum('install' in x for x in tags) == 1


def test_contains_no_local_paths(notebook):
  assert str(Path.home()) not in nbformat.writes(notebook)
  assert os.sep + 'work' not in nbformat.writes(notebook)
