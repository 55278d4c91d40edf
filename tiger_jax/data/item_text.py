"""Converts the fields of an item to text."""

import decimal
import math
import re
import reprlib
from typing import Any, NamedTuple
import unicodedata

from tiger_jax.errors import CONTROLS

_LINE_BREAKS = re.compile('[\u2028\u2029]')
# A number with a decimal point (1,299.99) or a decimal comma (1.299,99).
_POINT = re.compile(r'[+-]?(\d+|\d{1,3}(,\d{3})+)?(\.\d*)?(e[+-]?\d{1,3})?',
                    re.ASCII | re.IGNORECASE)  # fmt: skip
_COMMA = re.compile(r'[+-]?(\d+|\d{1,3}(\.\d{3})+),\d{1,2}', re.ASCII)
_CURRENCY = re.compile(r'[A-Z]{3}(?=[\s\d])|(?<=[\s\d])[A-Z]{3}')
_REPR = reprlib.Repr()
_REPR.maxother = _REPR.maxlong = _REPR.maxstring = 40
_LONGEST = 40

# The kinds of values of a field, see `field`.
TEXT, EMPTY, JOINED = 'text', 'empty', 'joined'
UNUSABLE, NO_NUMBER = 'unusable', 'no_number'


class Unreadable(NamedTuple):
  """Represents a value whose type has no equivalent in Python."""

  type_name: str

  def __repr__(self) -> str:
    """Returns the text for a message."""
    return f'a {self.type_name}'


def type_name(value: Any) -> str:
  """Returns the name of the type of a value, for a message."""
  names = {dict: 'a record', list: 'a list of lists or records', bool: 'a bool'}
  if isinstance(value, Unreadable):
    return repr(value)
  return names.get(type(value), f'a {type(value).__name__}')


def shown(value: Any) -> str:
  """Returns the `repr` of a value for an error message, cut to 40 characters.

  Control characters and invalid Unicode are escaped, so that the result is one
  line and cannot control a terminal.
  """
  try:
    # Only the beginning of long text is converted.
    whole = repr(value[:_LONGEST]) if _is_text(value) else _REPR.repr(value)
  # Raised for an integer of thousands of digits, or a value that contains
  # itself.
  except (ValueError, RecursionError):
    whole = type(value).__name__
  whole = visible(whole)
  if len(whole) > _LONGEST or (_is_text(value) and len(value) > _LONGEST):
    return whole[:_LONGEST] + '...'
  return whole


def visible(text: str) -> str:
  """Returns text with its control characters and invalid Unicode escaped."""
  if is_unicode(text) and not has_controls(text):
    return text
  return ''.join(
    ascii(x)[1:-1] if has_controls(x) or not is_unicode(x) else x for x in text
  )


def _is_text(value: Any) -> bool:
  return isinstance(value, (str, bytes))


def is_unicode(text: str) -> bool:
  """Returns whether text has no surrogates. JSON escapes can produce them."""
  try:
    text.encode('utf-8')
  except UnicodeEncodeError:
    return False
  return True


def has_controls(text: str) -> bool:
  """Returns whether text has control, bidi or line-breaking characters."""
  return bool(CONTROLS.search(text) or _LINE_BREAKS.search(text))


def is_clean(text: str) -> bool:
  """Returns whether text is not empty and can be printed on one line."""
  if text.isascii():  # Most ids; the general case takes ten times as long.
    return bool(text) and text.isprintable()
  return is_unicode(text) and not has_controls(text)


def plain(value: Any) -> str:
  """Returns text on one line without control characters; '' for other types."""
  if not isinstance(value, str):
    return ''
  words = ' '.join(value.split())
  if words.isprintable():  # Most texts; the general case is slow.
    return words
  # JSON escapes can produce pairs of surrogates, and single ones. A round trip
  # through UTF-16 joins pairs into characters and replaces single surrogates.
  whole = value.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
  # Line breaks and tabs are control characters too, but they separate words.
  words = CONTROLS.sub('', ' '.join(whole.split()))
  return ' '.join(words.split())


def field(name: str, value: Any) -> tuple[str, str]:
  """Returns the text of a field and the kind of its value.

  `name` is one of `dataset.FIELDS`. The kinds are:

  - `EMPTY`: None, NaN, text without a word, or a price that is infinite.
  - `JOINED`: a list of texts.
  - `NO_NUMBER`: a price that is not a number. Its text is kept.
  - `UNUSABLE`: a value of an unexpected type. At most a part of it is kept.
  - `TEXT`: any other value.
  """
  if name == 'price':
    text = price(value)
    usable = _usable(value, depth=0)
    is_number = isinstance(value, _NUMBERS) or number(text) is not None
    kind = TEXT if is_number else NO_NUMBER
  elif name == 'categories':
    text, usable, kind = categories(value), _usable(value, depth=2), TEXT
  else:
    parts = value if isinstance(value, list) else [value]
    text = ' '.join(filter(None, map(_words, parts)))
    usable = _usable(value, depth=1)
    kind = JOINED if isinstance(value, list) else TEXT
  if not usable:
    return text, UNUSABLE
  return text, kind if text else EMPTY


def price(value: Any) -> str:
  """Returns a number as a price such as `12.00`, and keeps other text.

  `$1,299.99`, `1.299,99 EUR` and `12,50` are read as numbers. Text without a
  letter or digit, values of other types, and numbers that are not finite become
  ''.
  """
  amount = number(value)
  if amount is not None:
    return f'{amount:.2f}' if math.isfinite(amount) else ''
  text = plain(value)
  # Some sources write a dash or a similar mark for an unknown price.
  return text if any(x.isalnum() for x in text) else ''


def number(value: Any) -> float | None:
  """Returns a price as a number; None if it is not a number."""
  if isinstance(value, bool):
    return None
  if isinstance(value, _NUMBERS):
    try:
      return float(value)
    except OverflowError:
      return math.inf
  if not isinstance(value, str) or len(value) > _LONGEST:
    return None
  if value.isascii():
    text = value.replace('$', '')  # The only currency sign in ASCII.
  else:
    text = ''.join(x for x in value if unicodedata.category(x) != 'Sc')
  text = _CURRENCY.sub('', text, count=1).strip()
  if text.lower() in ('nan', 'inf', '-inf', 'infinity'):
    return math.nan
  if _COMMA.fullmatch(text):
    return float(text.replace('.', '').replace(',', '.'))
  if _POINT.fullmatch(text) and any(x.isdigit() for x in text):
    return float(text.replace(',', ''))
  return None


def categories(value: Any) -> str:
  """Returns categories as text such as `A > B > C; A > D`, or ''.

  `value` is a text, a path, or a list of paths. A path is a list of names.
  """
  if not isinstance(value, list):
    return _words(value)
  if not any(isinstance(path, list) for path in value):
    value = [value]
  paths = [
    ' > '.join(filter(None, map(_words, path)))
    if isinstance(path, list)
    else _words(path)
    for path in value
  ]
  return '; '.join(path for path in paths if path)


_NUMBERS = (int, float, decimal.Decimal)


def _words(value: Any) -> str:
  """Returns a text or a number as text. Some brands are numbers."""
  if isinstance(value, str | bool) or not isinstance(value, _NUMBERS):
    return plain(value)
  if not math.isfinite(value):
    return ''
  return str(int(value) if value == int(value) else value)


def _usable(value: Any, depth: int) -> bool:
  if value is None or isinstance(value, str):
    return True
  if isinstance(value, list):
    return depth > 0 and all(_usable(x, depth - 1) for x in value)
  if isinstance(value, bool):
    return False
  return isinstance(value, _NUMBERS)
