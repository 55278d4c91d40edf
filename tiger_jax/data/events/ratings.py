"""Reads the ratings of events."""

import math
import re
from typing import Any

from jaxtyping import Bool, Float32
import numpy as np
import pyarrow as pa

from tiger_jax.data.files import tables

REQUIREMENT = 'it must be a number with a decimal point, such as 4.5'
_NUMBER = re.compile(r'[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})', re.ASCII)
# Larger numbers are not ratings.
_TOO_LARGE = 1e30


def parse(
  column: tables.Column,
) -> tuple[Float32[np.ndarray, ' rows'], Bool[np.ndarray, ' rows']]:
  """Returns the rating of each row, and which values are not numbers.

  A missing rating is NaN.
  """
  if isinstance(column, list):
    missing = np.fromiter((x is None for x in column), bool, len(column))
    parsed = np.fromiter(map(_number, column), np.float32, len(column))
  else:
    missing = column.is_null().to_numpy(zero_copy_only=False)
    parsed = _parse(column)
  return parsed, np.isnan(parsed) & ~missing


def _parse(column: pa.Array) -> Float32[np.ndarray, ' rows']:
  kind = column.type
  if pa.types.is_integer(kind) or pa.types.is_floating(kind):
    numbers = column.cast(pa.float64(), safe=False).fill_null(math.nan)
    ratings = numbers.to_numpy(zero_copy_only=False)
    usable = np.abs(ratings) < _TOO_LARGE
    return np.where(usable, ratings, math.nan).astype(np.float32)
  if not tables.is_text(kind):
    values = tables.values(column)
    return np.fromiter(map(_number, values), np.float32, len(values))
  encoded = column.dictionary_encode()
  distinct = [*map(_number, encoded.dictionary.to_pylist()), math.nan]
  codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
  return np.asarray(distinct, np.float32)[codes]


def _number(value: Any) -> float:
  if isinstance(value, str):
    text = value.strip()
    return float(text) if _NUMBER.fullmatch(text) else math.nan
  if isinstance(value, bool) or not isinstance(value, tables.NUMBERS):
    return math.nan
  # A Python integer may be too large for a float.
  return float(value) if abs(value) < _TOO_LARGE else math.nan
