"""The text fields of an item, from whatever form a source has them in."""

import math
from typing import Any


def is_unicode(text: str) -> bool:
  """Tells whether text has no half characters, which JSON can write."""
  try:
    text.encode('utf-8')
  except UnicodeEncodeError:
    return False
  return True


def plain(value: Any) -> str:
  """Returns text on one line; '' for what is not text."""
  if not isinstance(value, str):
    return ''
  # Escapes in JSON can write one character as two halves, or only one half;
  # UTF-16 joins the pairs and replaces the rest.
  whole = value.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
  return ' '.join(whole.split())


def price(value: Any) -> str:
  """Returns a number as `12.00`, other text as it is, '' for neither."""
  try:
    number = float(value)
  except (TypeError, ValueError, OverflowError):
    return plain(value)
  return f'{number:.2f}' if math.isfinite(number) else ''


def categories(value: Any) -> str:
  """Returns category paths as `A > B > C; A > D`.

  Args:
    value: Such text, one path as a list of names, or a list of paths.

  Returns:
    The text; '' for anything else.
  """
  if not isinstance(value, list):
    return plain(value)
  if not any(isinstance(path, list) for path in value):
    value = [value]
  paths = [
    ' > '.join(name for name in map(plain, path) if name)
    for path in value
    if isinstance(path, list)
  ]
  return '; '.join(path for path in paths if path)
