"""Tests the files of the page, without a browser."""

import re

from tests.serving.page.shop import FILES, TYPES

TEXTS = {path.name: path.read_text() for path in FILES.iterdir()}
SCRIPTS = {x: text for x, text in TEXTS.items() if x.endswith('.js')}


def test_the_files_are_small():
  assert sum(len(text.encode()) for text in TEXTS.values()) < 60_000
  assert max(len(text.splitlines()) for text in TEXTS.values()) <= 350
  assert {path.suffix for path in FILES.iterdir()} == set(TYPES)


def test_nothing_is_loaded_from_another_host():
  names = {'www.w3.org'}  # The name of a format, which nothing loads.
  for name, text in TEXTS.items():
    assert set(re.findall(r'//([\w-]+\.[\w.-]+)', text)) <= names, name


def test_the_document_has_no_inline_script_or_style():
  page = TEXTS['index.html']
  assert re.findall(r'<script[^>]*>', page) == [
    '<script type="module" src="page/main.js">'
  ]
  assert '<style' not in page
  assert not re.search(r'\s(style|on\w+)=', page)


def test_text_is_never_read_as_markup():
  unsafe = (
    'innerHTML', 'outerHTML', 'insertAdjacentHTML', 'document.write',
    'createContextualFragment', 'DOMParser', 'eval(', 'Function(', 'srcdoc',
  )  # fmt: skip
  for name, text in SCRIPTS.items():
    assert not [x for x in unsafe if x in text], name


def test_all_files_are_used():
  used = set(re.findall(r'(?:href|src)="page/([\w.]+)"', TEXTS['index.html']))
  for text in SCRIPTS.values():
    used |= set(re.findall(r"from '\./([\w.]+)'", text))
  assert used | {'index.html'} == set(TEXTS)
