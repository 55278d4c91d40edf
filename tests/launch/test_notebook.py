"""Tests that the notebook runs, and that it is stored without outputs."""

from pathlib import Path
import re

import nbformat
import pytest

from docs.notebook import COPY, SOURCE, config_digest, execute
from tests.small import ROOT

# Texts of the notebook, and replacements that shorten the training runs.
SHORT = {
  "'configs/quickstart.py'": "'configs/quickstart.py', {'train.steps': 30, "
  "'dataset.synthetic_users': 300, 'train.optimizer.warmup_steps': 5, "
  "'train.evaluate_every': 10}",
  "'train.steps': 300": "'train.steps': 40",
  "'train.evaluate_every': 100": "'train.evaluate_every': 20",
}


@pytest.fixture(name='notebook')
def _notebook():
  return nbformat.read(SOURCE, as_version=4)


def texts(notebook):
  """Returns the printed text of each cell."""
  return [
    ''.join(x.get('text', '') for x in cell.get('outputs', ()))
    for cell in notebook.cells
  ]


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_every_cell_runs_with_short_training(notebook, tmp_path):
  text = nbformat.writes(notebook)
  for long, short in SHORT.items():
    assert long in text
    text = text.replace(long, short)
  notebook = nbformat.reads(text, as_version=4)
  execute(notebook, tmp_path)
  printed = '\n'.join(texts(notebook))
  for expected in ('recall@10: ', 'all proven: True', 'temperature 3.0',
                   'For user u0'):  # fmt: skip
    assert expected in printed
  assert (tmp_path / 'runs/example_shop/results.json').exists()


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_the_unchanged_notebook_reaches_a_high_recall(notebook, tmp_path):
  execute(notebook, tmp_path)
  recall = next(x for x in texts(notebook) if 'recall@10: ' in x)
  assert float(recall.split('recall@10: ')[1].split()[0]) > 0.4


def test_the_notebook_is_stored_without_outputs(notebook):
  for cell in notebook.cells:
    assert not cell.get('outputs') and cell.get('execution_count') is None
  tags = [cell.metadata.get('tags', ()) for cell in notebook.cells]
  assert sum('install' in x for x in tags) == 1


def test_the_copy_in_the_docs_has_the_same_cells_with_outputs(notebook):
  copy = nbformat.read(COPY, as_version=4)
  is_equal = [x.source for x in copy.cells] == [
    x.source for x in notebook.cells
  ]
  assert is_equal, 'the cells of docs/colab.ipynb differ: run `make notebook`'
  pictures = [
    x
    for cell in copy.cells
    for x in cell.get('outputs', ())
    if 'image/png' in x.get('data', ())
  ]
  assert len(pictures) >= 3


def test_the_outputs_in_the_docs_are_those_of_the_configs(notebook):
  stored = nbformat.read(COPY, as_version=4).metadata.get('config_digest')
  is_equal = stored == config_digest(notebook)
  assert is_equal, 'configs changed after docs/colab.ipynb: run `make notebook`'


def test_the_training_in_the_docs_took_less_than_three_minutes():
  printed = '\n'.join(texts(nbformat.read(COPY, as_version=4)))
  (seconds,) = re.findall(r'The run took (\d+) s', printed)
  assert int(seconds) < 180


@pytest.mark.parametrize('path', [SOURCE, COPY])
def test_a_notebook_contains_no_local_paths(path):
  text = path.read_text()
  assert str(Path.home()) not in text and str(ROOT) not in text
