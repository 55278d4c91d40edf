"""Imports point down the floors of the package, and form no cycle."""

import ast
import graphlib
from pathlib import Path

from tests.small import ROOT

PACKAGE = ROOT / 'tiger_jax'
# From the top to the bottom. Folders of one floor may import each other.
FLOORS = (
  ('main', 'cli'),
  ('experiments',),
  ('pipeline', 'serving'),
  ('stages',),
  ('report',),
  ('evaluation',),
  ('recommenders',),
  ('embedding', 'retrieval', 'semantic_ids', 'training'),
  ('catalog', 'checkpoints', 'data', 'models'),
  ('config', 'runtime', 'storage'),
  ('errors', 'interfaces'),
)
LEVEL = {name: i for i, floor in enumerate(FLOORS) for name in floor}
# The only folders that may import a library.
ONLY = {
  'orbax': 'checkpoints',
  'tensorstore': 'checkpoints',
  'grain': 'data',
  'tensorflow_datasets': 'data',
  'sentence_transformers': 'embedding',
  'huggingface_hub': 'embedding',
}


def modules():
  """Returns the path of every module, by its dotted name."""
  found = {}
  for path in sorted(PACKAGE.rglob('*.py')):
    parts = path.relative_to(ROOT).with_suffix('').parts
    found['.'.join(x for x in parts if x != '__init__')] = path
  return found


def imported(path, names):
  """Returns the modules that a file imports, those of functions too."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {x.name for x in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path} has a relative import'
      for x in node.names:
        whole = f'{node.module}.{x.name}'
        found.add(whole if whole in names else str(node.module))
  return found


def folder(module):
  """Returns the folder of the package, or the module of its root."""
  return module.split('.')[1] if '.' in module else ''


MODULES = modules()
IMPORTS = {name: imported(path, MODULES) for name, path in MODULES.items()}


def test_the_root_has_five_modules():
  names = {x.stem for x in PACKAGE.glob('*.py')}
  assert names == {
    '__init__', 'main', 'cli', 'pipeline', 'errors', 'interfaces',
  }  # fmt: skip
  folders = {x.parent.name for x in PACKAGE.glob('*/__init__.py')}
  assert names - {'__init__'} | folders == set(LEVEL)


def test_imports_point_down():
  wrong = [
    f'{name} imports {x}'
    for name, found in IMPORTS.items()
    for x in found
    if folder(name) and x.startswith('tiger_jax.')
    if LEVEL[folder(x)] < LEVEL[folder(name)]
  ]
  assert not wrong


def test_imports_form_no_cycle():
  graph = {
    name: {x for x in found if x in MODULES and x != 'tiger_jax'}
    for name, found in IMPORTS.items()
  }
  assert len(list(graphlib.TopologicalSorter(graph).static_order())) > 100


def test_folders_form_no_cycle():
  graph = {}
  for name, found in IMPORTS.items():
    graph.setdefault(folder(name), set()).update(
      folder(x)
      for x in found
      if x.startswith('tiger_jax.') and folder(x) != folder(name)
    )
  list(graphlib.TopologicalSorter(graph).static_order())


def test_libraries_have_one_folder():
  wrong = [
    f'{name} imports {x}'
    for name, found in IMPORTS.items()
    for x in found
    if folder(name) != ONLY.get(x.split('.')[0], folder(name))
  ]
  assert not wrong


def test_files_are_short():
  long = {
    str(path): count
    for path in Path(PACKAGE).rglob('*.py')
    if (count := len(path.read_text().splitlines())) > 350
  }
  assert not long
