"""Parses `config.embedding.template`."""

import string
from typing import NamedTuple

from tiger_jax.errors import UsageError


class Part(NamedTuple):
  """A column of a template, and the literal text before it.

  The last part of a template holds the text after the last column. Its column
  is ''.
  """

  text: str
  column: str


def parse(template: str) -> list[Part]:
  """Returns the parts of a template such as `{title}. Brand: {brand}`.

  `{{` and `}}` stand for literal braces.

  Raises:
    UsageError: The braces do not match, there is no column, or a column has a
      format specifier, which is not supported.
  """
  where = f'template is {template!r}'
  parts = []
  text = ''
  try:
    pieces = list(string.Formatter().parse(template))
  except ValueError as error:
    raise UsageError(
      f'{where}: {error}; write {{column}} for a column, and {{{{ or }}}} for '
      'a brace'
    ) from error
  for literal, column, form, conversion in pieces:
    text += literal
    if column is None:
      continue
    if not column.strip() or form or conversion:
      raise UsageError(
        f'{where}: put only the name of a column between braces, such as '
        '{title}'
      )
    parts.append(Part(text, column.strip()))
    text = ''
  if not parts:
    raise UsageError(f'{where}: name at least one column, such as {{title}}')
  return [*parts, Part(text, '')]
