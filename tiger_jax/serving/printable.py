"""Text from a shop, made safe for a terminal."""

import unicodedata

# They reverse what follows, so that an id reads as another.
_DIRECTIONS = frozenset(
  '\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069'
)


def printable(text: str) -> str:
  """Returns text without what would control a terminal.

  Line breaks and tabs become blanks. Other control characters, marks of
  direction, and halves of characters that no encoding can write are dropped.
  """
  return ''.join(filter(_is_printable, ' '.join(text.split())))


def _is_printable(character: str) -> bool:
  return (
    character not in _DIRECTIONS
    # Control characters and surrogates.
    and unicodedata.category(character) not in ('Cc', 'Cs')
  )
