"""Tests that the SVG files are up to date and readable."""

import re
from xml.etree import ElementTree

import pytest

from docs import figures
from tests.small import ROOT

# The assumed width of a letter, divided by the font size. Bold fonts are wider.
_LETTER = 0.55


@pytest.mark.parametrize('name', figures.FIGURES)
def test_a_figure_is_up_to_date(name):
  drawn = figures.FIGURES[name]()
  assert (ROOT / 'docs' / name).read_bytes() == drawn.encode(), 'make figures'


@pytest.mark.parametrize('name', figures.FIGURES)
def test_text_is_readable_and_within_the_figure(name):
  root = ElementTree.fromstring(figures.FIGURES[name]())
  width, height = (float(root.attrib[x]) for x in ('width', 'height'))
  # If a figure 720 units wide is shown 350 pixels wide, text of 17 units is 8
  # pixels high.
  assert width <= 720
  background = root.find('{*}rect').attrib
  assert background['fill'] == 'white'
  assert (background['width'], background['height']) == (
    f'{width:g}', f'{height:g}',
  )  # fmt: skip
  texts = root.findall('{*}text')
  assert len(texts) > 20
  for text in texts:
    size = float(text.attrib['font-size'])
    assert size >= 17
    length = len(text.text) * size * _LETTER
    left = float(text.attrib['x'])
    left -= {'start': 0, 'middle': length / 2, 'end': length}[
      text.attrib['text-anchor']
    ]
    assert left > -10, text.text
    assert left + length < width + 10, text.text
    assert 0 < float(text.attrib['y']) < height


def test_the_drawn_beam_is_in_the_catalog():
  text = re.sub(r'<[^>]+>', ' ', figures.catalog())
  # By hand: the sorted IDs are 010, 012, 031, 103, 120, 121, 123, 312.
  assert 'Prefix 1: its bitmap says 0 or 2 follows.' in text
  assert 'offsets 6 and 7 give slots 4 to 6.' in text
  assert 'Column c3 in these slots: 0, 1 or 3 follows.' in text
  assert 'The ID 1, 2, 1 is in slot 5: item row 3.' in text
