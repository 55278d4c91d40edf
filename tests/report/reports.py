"""Parses report pages for several tests."""

import html.parser
import re

_VOID = {'meta', 'br', 'img', 'hr', 'link', 'input'}


class Page(html.parser.HTMLParser):
  """The parsed elements of a page.

  Attributes:
    text: The text that a reader sees, with single spaces.
    elements: The names and attributes of all elements.
    sections: The ids of the sections, in order.
  """

  def __init__(self, source):
    super().__init__()
    self.elements, self._open, self._texts = [], [], []
    self.feed(source)
    self.close()
    assert not self._open, self._open
    self.text = re.sub(r'\s+', ' ', ' '.join(self._texts))
    self.sections = [
      dict(x)['id'] for name, x in self.elements if ('class', 'section') in x
    ]

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, attrs))
    if tag not in _VOID:
      self._open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.elements.append((tag, attrs))

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    if not {'script', 'style'} & set(self._open):
      self._texts.append(data)

  def count(self, name):
    """Returns the number of elements with the given name."""
    return sum(tag == name for tag, _ in self.elements)
