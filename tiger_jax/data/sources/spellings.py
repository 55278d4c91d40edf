"""Merges the fields of records that spell the name of a column differently."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiger_jax.data import item_text
from tiger_jax.data.sources import column_names
from tiger_jax.errors import DataError


def merge(
  path: Path, fields: Mapping[str, list[Any]]
) -> tuple[dict[str, list[Any]], list[str]]:
  """Returns one column for all fields whose names stand for it.

  Records need not have the same fields: some may say `user`, others `user_id`.
  A field with the exact name of the column is read in place of all others if no
  record lacks it, as in files whose rows all have the same columns.

  Args:
    path: The file, for messages.
    fields: The values of each field by its name in the file, one for each
      record, None where a record lacks the field.

  Returns:
    The columns by name, and notes about fields that are not read.

  Raises:
    DataError: A record has two different values for the same column.
  """
  names: dict[str, list[str]] = {}
  for raw in fields:
    names.setdefault(column_names.column_of(raw), []).append(raw)
  columns: dict[str, list[Any]] = {}
  notes = []
  for column, spelled in names.items():
    values, conflict = _merged(fields, spelled)
    exact = column_names.exact(spelled, column)
    if conflict is None:
      columns[column] = values
    elif exact is not None and _is_complete(fields, spelled, exact):
      columns[column] = fields[spelled[exact]]
      notes += column_names.unused(path, spelled, {column: exact})
    else:
      row, *both = conflict
      shown = ' and '.join(map(item_text.shown, both))
      raise DataError(
        f'{path} has columns {shown}, either could be {column}, and row '
        f'{row + 1} has a different value in each: name one of them {column!r} '
        'in every row, or remove one'
      )
  return columns, notes


def _merged(
  fields: Mapping[str, list[Any]], spelled: list[str]
) -> tuple[list[Any], tuple[int, str, str] | None]:
  """Returns the merged values, or the first row with two, and their names."""
  merged = fields[spelled[0]]
  if len(spelled) == 1:
    return merged, None
  merged = list(merged)
  source = [spelled[0]] * len(merged)
  for raw in spelled[1:]:
    for row, value in enumerate(fields[raw]):
      if value is None:
        continue
      if merged[row] is None:
        merged[row], source[row] = value, raw
      elif not _is_same(merged[row], value):
        return [], (row, source[row], raw)
  return merged, None


def _is_complete(
  fields: Mapping[str, list[Any]], spelled: list[str], exact: int
) -> bool:
  """Returns whether each record that has a field has the exact one."""
  return all(
    row[exact] is not None or not any(value is not None for value in row)
    for row in zip(*(fields[raw] for raw in spelled), strict=True)
  )


def _is_same(one: Any, other: Any) -> bool:
  return type(one) is type(other) and one == other
