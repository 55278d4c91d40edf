"""Text from elsewhere, made safe for one line of a terminal."""

import re

# Characters that reverse or embed text of another direction, and can hide text.
_DIRECTIONS = '\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069'
CONTROLS = re.compile(f'[\x00-\x1f\x7f-\x9f{_DIRECTIONS}]')
_LONGEST = 1500


def one_line(text: str) -> str:
  """Returns text on one line, without control characters, and cut if long."""
  # Line breaks and tabs are control characters too, and separate words.
  line = CONTROLS.sub('', ' '.join(text.split()))
  return line if len(line) <= _LONGEST else f'{line[:_LONGEST]}...'
