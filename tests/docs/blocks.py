"""The code blocks of the documentation.

A test runs every block of Bash and Python, in the order of the page. If a block
cannot run, a comment above it says why:

    <!-- not run: it downloads data -->
"""

from pathlib import Path
import re
import textwrap
from typing import NamedTuple

from docs.repository_links import PAGES
from tests.small import ROOT

RUN = {'bash': 'bash', 'sh': 'bash', 'shell': 'bash', 'python': 'python'}
# The languages of blocks that are only shown.
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
    place: The file and the line number of the first line of code.
    language: The text after the opening fence, such as 'bash'.
    text: The code, without indentation.
    reason: The reason why the block is not run; '' if it is run.
  """

  place: str
  language: str
  text: str
  reason: str


def pages() -> list[Path]:
  """Returns the pages of docs/, and the files that they include or replace."""
  folder = ROOT / 'docs'
  return [*(ROOT / x for x in PAGES), *sorted(folder.glob('*.md'))]


def blocks(page: Path) -> list[Block]:
  """Returns the fenced blocks of a page, except Sphinx directives."""
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
  """Returns one line for each mistake in the blocks of a page."""
  result = []
  for block in blocks(page):
    if block.language not in (*RUN, *SHOWN):
      result.append(
        f'{block.place}: the language is {block.language!r}: name one of '
        f'{", ".join((*RUN, *SHOWN))}'
      )
    if block.reason and block.language not in RUN:
      result.append(
        f'{block.place}: remove the comment, because this block is never run'
      )
  text = page.read_text(encoding='utf-8')
  comments = re.findall('^ *<!-- not run', text, re.MULTILINE)
  if len(comments) != sum(bool(x.reason) for x in blocks(page)):
    result.append(f'{page.name}: no block follows a comment `not run`')
  return result
