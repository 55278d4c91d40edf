"""Tests that docs/departures.md lists the departures that the code marks."""

from collections import Counter
from pathlib import Path
import re

ROOT = Path(__file__).parents[2]
_MARK = '# Departs from the paper:'


def test_the_page_lists_exactly_the_marked_departures():
  marked = Counter({
    str(path.relative_to(ROOT)): count
    for folder in ('configs', 'tiger_jax')
    for path in (ROOT / folder).rglob('*.py')
    if (count := path.read_text(encoding='utf-8').count(_MARK))
  })  # fmt: skip
  page = (ROOT / 'docs' / 'departures.md').read_text(encoding='utf-8')
  listed = Counter(re.findall(r'^\|.*\| `([\w/]+\.py)` \|$', page, re.M))
  assert marked == listed
