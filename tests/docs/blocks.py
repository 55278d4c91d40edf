"""The code blocks of the documentation.

A test runs every block of Bash and Python, in the order of the page. A block
that cannot run stands below a comment that says why:

    <!-- not run: it downloads data -->
"""

from pathlib import Path
import re
import textwrap
from typing import NamedTuple

from tests.small import ROOT

RUN = {'bash': 'bash', 'sh': 'bash', 'shell': 'bash', 'python': 'python'}
# Blocks that show something.
SHOWN = ('bibtex', 'csv', 'ini', 'json', 'text', 'toml', 'yaml')
_FENCE = re.compile(
  r'^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)\n'
  r'(?P<text>.*?)^(?P=indent)(?P=fence)`*~* *$',
  re.MULTILINE | re.DOTALL,
)
_REASON = re.compile(r'<!-- not run: ([^<>]+?)\s*-->\s*$')


class Block(NamedTuple):
  """A fenced block.

  Attributes:
    place: The file and the line of its first line of code.
    language: What follows the opening fence.
    text: The code, without indentation.
    reason: Why it is not run; '' if it is.
  """

  place: str
  language: str
  text: str
  reason: str


def pages() -> list[Path]:
  """Returns README.md and the pages of docs/."""
  folder = ROOT / 'docs'
  return [ROOT / 'README.md', *sorted(folder.glob('*.md'))]


def blocks(page: Path) -> list[Block]:
  """Returns the fenced blocks of a page, except directives of Sphinx."""
  text = page.read_text(encoding='utf-8')
  name = page.relative_to(ROOT) if page.is_relative_to(ROOT) else page
  result = []
  for match in _FENCE.finditer(text):
    if match['info'].startswith('{'):
      continue
    line = text.count('\n', 0, match.start('text')) + 1
    reason = _REASON.search(text[: match.start()].rstrip())
    result.append(
      Block(
        f'{name}:{line}',
        match['info'].strip(),
        textwrap.dedent(match['text']),
        reason[1] if reason else '',
      )
    )
  return result


def problems(page: Path) -> list[str]:
  """Returns what is wrong with the blocks of a page, a line for each."""
  result = []
  for block in blocks(page):
    if block.language not in (*RUN, *SHOWN):
      result.append(
        f'{block.place}: the language is {block.language!r}: name one of '
        f'{", ".join((*RUN, *SHOWN))}'
      )
    if block.reason and block.language not in RUN:
      result.append(f'{block.place}: a block that only shows text has a reason')
  text = page.read_text(encoding='utf-8')
  if text.count('<!-- not run') != sum(bool(x.reason) for x in blocks(page)):
    result.append(f'{page.name}: a comment `not run` stands above no block')
  return result
