"""Makes the links of Markdown files work on GitHub and on the site.

A page of the site may include a file of the repository, such as RESULTS.md.
Links to that file become links to the page. Links to folders become text.
"""

import os
from pathlib import Path
import re
from typing import Any

ROOT = Path(__file__).parents[1]
# Files that are pages of the site, by their path in the repository.
PAGES = {
  'README.md': 'index.md',
  'RESULTS.md': 'results.md',
  'benchmarks/RESULTS.md': 'benchmarks.md',
  'RELIABILITY.md': 'reliability.md',
  'CHANGELOG.md': 'changelog.md',
  'CONTRIBUTING.md': 'contributing.md',
}
_LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)')
_FENCE = re.compile(r'^( *(`{3,}|~{3,}).*?^ *\2`* *$)', re.M | re.S)


def setup(app: Any) -> None:
  """Connects this module to Sphinx."""
  app.connect('source-read', _read)
  app.connect('include-read', _include)


def _read(app: Any, page: str, source: list[str]) -> None:
  del app
  source[0] = rewrite(source[0], Path('docs', page).parent, page)


def _include(app: Any, path: Path, page: str, source: list[str]) -> None:
  home = Path(os.path.normpath(Path(app.srcdir, path)))
  source[0] = rewrite(source[0], home.parent.relative_to(ROOT), page)


def rewrite(text: str, home: Path, page: str) -> str:
  """Returns Markdown whose links are relative to a page.

  Args:
    text: The Markdown.
    home: The folder of the Markdown file, relative to the repository.
    page: The page that shows the text, relative to docs/.
  """
  here = Path('docs', page).parent

  def replace(match: re.Match[str]) -> str:
    mark, label, target = match.groups()
    target, hash_sign, anchor = target.partition('#')
    if not target or ':' in target:
      return match[0]
    path = os.path.normpath(home / target)
    if (ROOT / path).is_dir():
      return label
    path = os.path.join('docs', PAGES[path]) if path in PAGES else path
    return f'{mark}[{label}]({os.path.relpath(path, here)}{hash_sign}{anchor})'

  parts = _FENCE.split(text)
  # Each fence yields three parts: the text before it, the fence and its marks.
  parts[::3] = [_LINK.sub(replace, part) for part in parts[::3]]
  return ''.join(x for i, x in enumerate(parts) if i % 3 < 2)
