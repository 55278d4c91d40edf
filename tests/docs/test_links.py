"""Links in Markdown files and in the built site."""

import os
from pathlib import Path
import re

import pytest

from docs import check_html, repository_links
from tests.small import ROOT

_LINK = re.compile(r'\]\(([^()\s]+)\)|<img [^>]*src="([^"]+)"')
_FENCE = re.compile(r'^( *)(`{3,}|~{3,}).*?^\1\2`* *$', re.M | re.S)
FILES = sorted(
  path
  for folder in ('.', 'docs', 'docs/api', 'benchmarks', '.github')
  for path in (ROOT / folder).glob('*.md')
)


def anchors(path):
  """Returns the anchors that GitHub gives to the headings of a file."""
  text = _FENCE.sub('', path.read_text(encoding='utf-8'))
  names = []
  for heading in re.findall(r'^#+ +(.+?) *$', text, re.MULTILINE):
    heading = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)
    words = re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
    names.append(f'{words}-{names.count(words)}' if words in names else words)
  return names


@pytest.mark.parametrize(
  'path', FILES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_to_existing_files_and_headings(path):
  text = _FENCE.sub('', path.read_text(encoding='utf-8'))
  for groups in _LINK.findall(text):
    target = ''.join(groups)
    name, _, anchor = target.partition('#')
    if ':' in target:
      continue
    file = path.parent / name if name else path
    assert file.exists(), f'{path.name}: there is no {target}'
    if anchor:
      assert anchor in anchors(file), f'{path.name}: no anchor {target}'


def test_each_page_includes_its_repository_file():
  for file, page in repository_links.PAGES.items():
    assert (ROOT / file).is_file()
    text = (ROOT / 'docs' / page).read_text()
    if page != 'index.md':
      relative = os.path.relpath(ROOT / file, ROOT / 'docs')
      assert f'{{include}} {relative}\n' in text


@pytest.mark.parametrize(
  ('text', 'home', 'page', 'expected'),
  [
    ('[x](../RESULTS.md#a)', 'docs', 'data', '[x](results.md#a)'),
    ('[x](../benchmarks/RESULTS.md)', 'docs', 'data', '[x](benchmarks.md)'),
    ('[x](RESULTS.md)', 'benchmarks', 'benchmarks', '[x](benchmarks.md)'),
    ('[x](RESULTS.md)', '.', 'changelog', '[x](results.md)'),
    ('[x](docs/data.md)', '.', 'contributing', '[x](data.md)'),
    ('![x](docs/flow.svg)', '.', 'contributing', '![x](flow.svg)'),
    ('[x](../data.md)', 'docs/api', 'api/public', '[x](../data.md)'),
    ('[x](../launch/) y', 'docs', 'devices', 'x y'),
    ('[x](../configs/beauty.py)', 'docs', 'data', '[x](../configs/beauty.py)'),
    ('[x](https://a.b/c)', 'docs', 'data', '[x](https://a.b/c)'),
    ('[x](#here)', 'docs', 'data', '[x](#here)'),
    ('```\n[x](../RESULTS.md)\n```', 'docs', 'data',
     '```\n[x](../RESULTS.md)\n```'),
  ],
)  # fmt: skip
def test_links_are_rewritten(text, home, page, expected):
  assert repository_links.rewrite(text, Path(home), page) == expected


def test_no_page_has_a_name_that_sphinx_uses():
  names = {path.stem for path in (ROOT / 'docs').glob('*.md')}
  assert not names & {'genindex', 'py-modindex', 'search'}


GOOD = '<h1 id="top">A</h1><a href="b.html#end">b</a><a href="#top">top</a>'


@pytest.mark.parametrize(
  ('more', 'expected'),
  [
    ('', []),
    ('<a href="https://example.com">x</a>', []),
    ('<img src="data:image/png;base64,AAAA">', []),
    ('<a href="c.html">c</a>', ['a.html: there is no c.html']),
    ('<a href="b.html#no">b</a>', ['a.html: there is no anchor b.html#no']),
    ('<a href="#no">b</a>', ['a.html: there is no anchor #no']),
    ('<img src="c.png">', ['a.html: there is no c.png']),
    ('<script src="https://a.b/c.js"></script>',
     ['a.html: loads https://a.b/c.js']),
    ('<link href="//a.b/c.css">', ['a.html: loads //a.b/c.css']),
  ],
)  # fmt: skip
def test_broken_and_external_links_are_reported(more, expected, tmp_path):
  (tmp_path / 'a.html').write_text(GOOD + more)
  (tmp_path / 'b.html').write_text('<p id="end">B</p>')
  (tmp_path / 'fine.css').write_text('a { background: url("a.png") }')
  assert check_html.problems(tmp_path) == expected
  assert check_html.main(str(tmp_path)) == bool(expected)


def test_styles_and_fonts_of_another_host_are_reported(tmp_path):
  (tmp_path / 'a.css').write_text(
    '@import "https://a.b/c";\nb { src: url(//fonts.example/d) }'
  )
  assert check_html.problems(tmp_path) == [
    'a.css: loads https://a.b/c', 'a.css: loads //fonts.example/d',
  ]  # fmt: skip
