"""Documents the modules of a package on a page of the API reference."""

import ast
from pathlib import Path
import re
from typing import Any

ROOT = Path(__file__).parents[1]
_MARK = re.compile(r'^<!-- modules: ([\w., ]+) -->$', re.MULTILINE)
_ITEM = re.compile(r'^( *)(`[^`\n]+`: )', re.MULTILINE)
_BLOCK = re.compile(r'^( *)(\S.*[^:\n]):\n\n(\1 +\S)', re.MULTILINE)
_FLAX = re.compile(r'(, )?parent: flax\.linen\..*name: str \| None = None\)')
# A default that is not an expression, or that is a whole config section.
_DEFAULT = re.compile(
  r'= (?:<[^<>]*>|[A-Z]\w+\((?:[^()]|\((?:[^()]|\(.*?\))*\))*\))'
)
# The docstring of the property that Napoleon is about to parse.
_properties: list[str] = []
_SECTION = """
## {name}

```{{eval-rst}}
.. automodule:: {name}
   :members:
   :show-inheritance:
   :ignore-module-all:
   :exclude-members: {excluded}
```
"""


def setup(app: Any) -> None:
  """Connects this module to Sphinx."""
  app.connect('source-read', _read)
  app.connect('autodoc-skip-member', _skip)
  app.connect('autodoc-process-bases', _bases)
  app.connect('autodoc-process-signature', _signature)
  # Napoleon parses the sections of docstrings at priority 500.
  app.connect('autodoc-process-docstring', _before_napoleon, 400)
  app.connect('autodoc-process-docstring', _after_napoleon, 600)


def _read(app: Any, name: str, source: list[str]) -> None:
  del app, name
  source[0] = expand(source[0])


def expand(text: str) -> str:
  """Replaces `<!-- modules: PACKAGE -->` with a section for each module."""
  return _MARK.sub(
    lambda mark: ''.join(
      _SECTION.format(name=name, excluded=', '.join(_public(name)))
      for package in mark[1].split(', ')
      for name in module_names(package)
    ),
    text,
  )


def module_names(package: str) -> list[str]:
  """Returns the modules of a package that define a public name.

  If `package` is a module, only its own name is returned.
  """
  path = ROOT.joinpath(*package.split('.'))
  if not path.is_dir():
    return [package]
  names = []
  for file in sorted(path.rglob('*.py')):
    parts = file.relative_to(ROOT).with_suffix('').parts
    if any(_is_public(x) for x in ast.parse(file.read_text()).body):
      names.append('.'.join(x for x in parts if x != '__init__'))
  return names


def _is_public(node: ast.stmt) -> bool:
  kinds = (ast.FunctionDef, ast.ClassDef)
  return isinstance(node, kinds) and not node.name.startswith('_')


def _public(module: str) -> list[str]:
  """Returns the names in a module that are on the page of the public API."""
  import tiger_jax

  return [
    name for name, home in tiger_jax._MODULES.items()
    if f'tiger_jax.{home}' == module
  ]  # fmt: skip


def _skip(
  app: Any, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
  """Skips the fields of named tuples; `Attributes` describes them."""
  del app, what, name, skip, options
  return True if type(member).__name__ == '_tuplegetter' else None


def _bases(
  app: Any, name: str, module: Any, options: Any, bases: list[Any]
) -> None:
  """Hides private base classes, `object` and `tuple`."""
  del app, name, module, options
  bases[:] = [
    x for x in bases
    if x not in (object, tuple) and not x.__name__.startswith('_')
  ]  # fmt: skip


def _signature(
  app: Any,
  what: str,
  name: str,
  member: Any,
  options: Any,
  signature: str | None,
  result: str | None,
) -> tuple[str, str | None] | None:
  """Hides the fields that Flax adds, and long defaults."""
  del app, what, name, member, options
  if signature is None:
    return None
  return _DEFAULT.sub('= ...', _FLAX.sub(')', signature)), result


def _before_napoleon(
  app: Any, what: str, name: str, member: Any, options: Any, lines: list[str]
) -> None:
  del app, name, member, options
  lines[:] = restructured(lines)
  if what == 'property':
    _properties[:] = lines


def _after_napoleon(
  app: Any, what: str, name: str, member: Any, options: Any, lines: list[str]
) -> None:
  """Restores the docstring of a property.

  Napoleon mistakes the text before a colon for a type.
  """
  del app, name, member, options
  if what == 'property' and ':' in _properties[0]:
    lines[:] = _properties


def restructured(lines: list[str]) -> list[str]:
  """Translates two Markdown conventions into reStructuredText.

  A line that begins with a name in backticks and a colon becomes an item of a
  list. An indented block after a blank line becomes literal text.
  """
  text = _ITEM.sub(r'\1- \2', '\n'.join(lines))
  return _BLOCK.sub(r'\1\2::\n\n\3', text).split('\n')
