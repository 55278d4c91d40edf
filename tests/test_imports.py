"""Tests that modules import only lower layers, without cycles."""

import ast
import graphlib
from pathlib import Path

from tests.small import ROOT

PACKAGE = ROOT / 'tiger_jax'
# The layers from top to bottom. Folders of a layer may import each other.
LAYERS = (
  ('main', 'cli', 'beam'),
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
LEVEL = {name: i for i, layer in enumerate(LAYERS) for name in layer}
# Maps a library to the only folders that may import it.
LIBRARY_FOLDERS = {
  'apache_beam': ('beam',),
  'orbax': ('checkpoints',),
  'tensorstore': ('checkpoints',),
  'grain': ('data',),
  'tensorflow_datasets': ('data',),
  'sentence_transformers': ('embedding',),
  'huggingface_hub': ('embedding', 'serving'),
  'safetensors': ('serving',),
  'fastapi': ('serving',),
  'prometheus_client': ('serving',),
  'pydantic': ('serving',),
  'pydantic_core': ('serving',),
  'starlette': ('serving',),
  'uvicorn': ('serving',),
}


def modules():
  """Maps the dotted name of every module to its path."""
  paths = {}
  for path in sorted(PACKAGE.rglob('*.py')):
    parts = path.relative_to(ROOT).with_suffix('').parts
    paths['.'.join(x for x in parts if x != '__init__')] = path
  return paths


def imported(path, names):
  """Returns the modules that a file imports, including imports in functions."""
  imports = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      imports |= {x.name for x in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path} has a relative import'
      for x in node.names:
        full_name = f'{node.module}.{x.name}'
        imports.add(full_name if full_name in names else str(node.module))
  return imports


def folder(module):
  """Returns the folder of a module, or the name of a module in the root."""
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


def test_modules_import_only_lower_layers():
  wrong = [
    f'{name} imports {x}'
    for name, imports in IMPORTS.items()
    for x in imports
    if folder(name) and x.startswith('tiger_jax.')
    if LEVEL[folder(x)] < LEVEL[folder(name)]
  ]
  assert not wrong


def test_readers_of_files_know_no_events_and_events_know_no_sources():
  above = {'files': ('events', 'sources'), 'events': ('sources',)}
  wrong = [
    f'{name} imports {x}'
    for name, imports in IMPORTS.items()
    for part, others in above.items()
    for x in imports
    if name.startswith(f'tiger_jax.data.{part}.')
    if x.startswith(tuple(f'tiger_jax.data.{y}' for y in others))
  ]
  assert not wrong


def test_imports_form_no_cycle():
  graph = {
    name: {x for x in imports if x in MODULES and x != 'tiger_jax'}
    for name, imports in IMPORTS.items()
  }

  assert len(list(graphlib.TopologicalSorter(graph).static_order())) > 100


def test_imports_between_folders_form_no_cycle():
  graph = {}
  for name, imports in IMPORTS.items():
    graph.setdefault(folder(name), set()).update(
      folder(x)
      for x in imports
      if x.startswith('tiger_jax.') and folder(x) != folder(name)
    )
  list(graphlib.TopologicalSorter(graph).static_order())


def test_each_library_is_imported_only_by_its_folder():
  wrong = [
    f'{name} imports {x}'
    for name, imports in IMPORTS.items()
    for x in imports
    if folder(name) not in LIBRARY_FOLDERS.get(x.split('.')[0], (folder(name),))
  ]
  assert not wrong


def test_no_other_class_has_the_name_of_an_interface():
  names = {'interfaces': set(), 'others': set()}
  for module, path in MODULES.items():
    where = 'interfaces' if folder(module) == 'interfaces' else 'others'
    nodes = ast.walk(ast.parse(path.read_text()))
    names[where] |= {x.name for x in nodes if isinstance(x, ast.ClassDef)}
  assert {'Batch', 'Recommendations'} < names['interfaces']
  assert not names['interfaces'] & names['others']


def test_files_are_short():
  long = {
    str(path): count
    for path in Path(PACKAGE).rglob('*.py')
    if (count := len(path.read_text().splitlines())) > 350
  }
  assert not long
