"""Draws random catalogs of Semantic IDs, and random logits to search them.

A catalog is uniform over all IDs, or skewed like a real one, in which many
items share popular prefixes. The logits replace a network, so that a benchmark
times the search only.
"""

from collections.abc import Callable
import functools

from jaxtyping import Float32, UInt, UInt64
import numpy as np

_EXPONENT = 1.2
_MAX_DRAWS = 16
_CHUNK = 1 << 18
# 2**64 divided by the golden ratio. If close numbers are multiplied by it
# modulo 2**64, the products are far apart.
_MULTIPLIER = 0x9E3779B97F4A7C15


def draw(
  num_items: int, num_codes: int, num_levels: int, skew: bool, seed: int
) -> UInt[np.ndarray, 'items l']:
  """Draws a catalog of unique IDs.

  Duplicates are drawn again, at most 16 times. A uniform catalog then has
  `num_items` items, or all IDs if there are fewer. A skewed catalog may have
  fewer items, because rare IDs are hardly ever drawn.

  Args:
    num_items: The number of items.
    num_codes: The number of codes at each level.
    num_levels: The number of levels of an ID.
    skew: Whether the next code of a prefix follows Zipf's law with exponent
      1.2. The order of the codes by frequency depends on the prefix. If False,
      all IDs are equally likely.
    seed: The random seed.

  Returns:
    IDs in ascending order, in the smallest unsigned type that fits a code.
  """
  rng = np.random.default_rng(seed)
  space = num_codes**num_levels
  num_items = min(num_items, space)
  groups = _groups(num_codes, num_levels)
  if not skew and space <= 4 * num_items:  # Avoids many duplicates.
    keys = rng.choice(space, num_items, replace=False, shuffle=False)
    return _codes(np.sort(keys).astype(np.uint64)[None], num_codes, groups)

  draw_keys: Callable[..., UInt64[np.ndarray, 'keys items']] = _uniform_keys
  if skew:
    draw_keys = functools.partial(_zipf_keys, rng.permutation(num_codes))
  keys = np.zeros((len(groups), 0), np.uint64)
  for _ in range(_MAX_DRAWS):
    missing = num_items - keys.shape[1]
    if not missing:
      break
    more = draw_keys(rng, missing, num_codes, groups)
    keys = _sorted_unique(np.concatenate([keys, more], axis=1))
  return _codes(keys, num_codes, groups)


def logits(
  batch_size: int, num_beams: int, num_codes: int, num_levels: int, seed: int
) -> list[Float32[np.ndarray, 'b _ v']]:
  """Draws logits for every level from a standard normal distribution.

  Returns:
    `[b, 1, v]` for the first level, which has one beam, and `[b, m, v]` for
    every other level. The logits of a beam depend on its rank, not on its
    codes.
  """
  rng = np.random.default_rng(seed)
  return [
    rng.standard_normal(
      (batch_size, num_beams if level else 1, num_codes), np.float32
    )
    for level in range(num_levels)
  ]


def _groups(num_codes: int, num_levels: int) -> list[int]:
  """Returns the number of levels in each 64-bit key, in the order of levels."""
  size = 1
  while size < num_levels and num_codes ** (size + 1) < 2**63:
    size += 1
  return [min(size, num_levels - i) for i in range(0, num_levels, size)]


def _uniform_keys(
  rng: np.random.Generator, count: int, num_codes: int, groups: list[int]
) -> UInt64[np.ndarray, 'keys items']:
  return np.stack(
    [rng.integers(num_codes**size, size=count, dtype=np.uint64)
     for size in groups]
  )  # fmt: skip


def _zipf_keys(
  by_rank: np.ndarray,
  rng: np.random.Generator,
  count: int,
  num_codes: int,
  groups: list[int],
) -> UInt64[np.ndarray, 'keys items']:
  """Draws the frequency rank of each code, and looks up the code.

  The list of codes by rank begins at an offset that depends on the prefix.

  Args:
    by_rank: All codes, shuffled.
    rng: The generator of the ranks.
    count: The number of IDs.
    num_codes: The number of codes at each level.
    groups: The number of levels in each key.
  """
  by_rank = by_rank.astype(np.uint64)
  shares = np.arange(1, num_codes + 1) ** -_EXPONENT
  cumulative = np.cumsum(shares / shares.sum())
  cumulative[-1] = 1  # Corrects rounding, because a draw may be close to 1.
  keys = np.zeros((len(groups), count), np.uint64)
  # A chunk fits in the processor's cache.
  for start in range(0, count, _CHUNK):
    chunk = keys[:, start : start + _CHUNK]
    prefix = np.zeros(chunk.shape[1], np.uint64)
    for key, size in zip(chunk, groups, strict=True):
      for _ in range(size):
        rank = np.searchsorted(cumulative, rng.random(len(key)), 'right')
        index = rank.astype(np.uint64) + (prefix >> 40)
        code = by_rank[index % num_codes]
        key *= num_codes
        key += code
        prefix = (prefix + code + 1) * _MULTIPLIER
        prefix ^= prefix >> 32
  return keys


def _sorted_unique(
  keys: UInt64[np.ndarray, 'keys n'],
) -> UInt64[np.ndarray, 'keys items']:
  if len(keys) == 1:
    keys = np.sort(keys)  # Several times as fast as `lexsort`.
  else:
    keys = keys[:, np.lexsort(keys[::-1])]
  first = np.ones(keys.shape[1], bool)
  first[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
  return keys if first.all() else keys[:, first]


def _codes(
  keys: UInt64[np.ndarray, 'keys items'], num_codes: int, groups: list[int]
) -> UInt[np.ndarray, 'items l']:
  dtype = np.min_scalar_type(num_codes - 1)
  codes = np.zeros((keys.shape[1], sum(groups)), dtype)
  level = len(codes.T)
  for key, size in zip(keys[::-1], groups[::-1], strict=True):
    for _ in range(size):
      level -= 1
      key, codes[:, level] = np.divmod(key, num_codes)
  return codes
