"""Checks a built site: `python -m docs.check_html docs/_build`.

Every internal link must lead to a file and an anchor that exist, and no page
may load anything from another host.
"""

import html.parser
from pathlib import Path
import re
import sys
from urllib.parse import unquote, urlsplit

# The attributes with URLs that a browser loads by itself.
_LOADED = {
  ('img', 'src'), ('script', 'src'), ('link', 'href'), ('iframe', 'src'),
  ('source', 'src'), ('object', 'data'),
}  # fmt: skip
_CSS = re.compile(r'(?:@import\s*|url\()\s*["\']?((?:https?:)?//[^"\')\s]+)')


class _Page(html.parser.HTMLParser):
  """The anchors of a page, the files that it loads, and its links."""

  def __init__(self, text: str):
    super().__init__()
    self.anchors: set[str] = set()
    self.loaded: list[str] = []
    self.links: list[str] = []
    self.feed(text)

  def handle_starttag(
    self, tag: str, attrs: list[tuple[str, str | None]]
  ) -> None:
    for name, value in attrs:
      if name in ('id', 'name') and value:
        self.anchors.add(value)
      elif value and (tag, name) in _LOADED:
        self.loaded.append(value)
      elif value and (tag, name) == ('a', 'href'):
        self.links.append(value)


def problems(folder: Path) -> list[str]:
  """Returns a line for each broken link and each file from another host."""
  pages = {
    path: _Page(path.read_text(encoding='utf-8'))
    for path in sorted(folder.rglob('*.html'))
    # Themes keep templates in `_static`.
    if '_static' not in path.relative_to(folder).parts
  }
  messages = []
  for path, page in pages.items():
    name = path.relative_to(folder)
    for target in page.loaded + page.links:
      parts = urlsplit(target)
      if parts.scheme or parts.netloc:
        if target in page.loaded and parts.scheme != 'data':
          messages.append(f'{name}: loads {target}')
        continue
      file = path
      if parts.path:
        file = (path.parent / unquote(parts.path)).resolve()
      if not file.is_file():
        messages.append(f'{name}: there is no {target}')
      elif parts.fragment and file.suffix == '.html' and file in pages:
        if unquote(parts.fragment) not in pages[file].anchors:
          messages.append(f'{name}: there is no anchor {target}')
  for path in sorted(folder.rglob('*.css')):
    for target in _CSS.findall(path.read_text(encoding='utf-8')):
      messages.append(f'{path.relative_to(folder)}: loads {target}')
  return messages


def main(folder: str) -> int:
  """Prints the problems; returns the exit code."""
  messages = problems(Path(folder).resolve())
  for line in messages:
    print(line, file=sys.stderr)
  return int(bool(messages))


if __name__ == '__main__':
  sys.exit(main(*sys.argv[1:]))
