"""Tests that docs/data.md lists the column names that are accepted."""

import re

from tests.small import ROOT
from tiger_jax.data.files.column_names import _ALIASES

_ROW = re.compile(r'^\| (?:interactions|items) \| `(\w+)` \|.*\|(.*)\|$', re.M)


def test_the_page_lists_exactly_the_accepted_names():
  page = (ROOT / 'docs' / 'data.md').read_text(encoding='utf-8')
  listed = {}
  for column, names in _ROW.findall(page):
    aliases = re.findall('`(.+?)`', names)
    if aliases:
      listed[column] = sorted(x.replace('_', '').lower() for x in aliases)
  assert listed == {name: sorted(x) for name, x in _ALIASES.items()}
