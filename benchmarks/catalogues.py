"""Made-up catalogues of Semantic IDs, and made-up logits to search them by.

Catalogues come spread evenly over all IDs, or bunched together as popular
topics bunch real ones. The logits stand in for a network that takes no time,
so that what is timed is the search alone.
"""

from collections.abc import Callable
import functools

from jaxtyping import Float32, UInt, UInt64
import numpy as np

_EXPONENT = 1.2
_MAX_DRAWS = 16
_CHUNK = 1 << 18
# Odd, and 2**64 over the golden ratio: close numbers get distant products.
_MULTIPLIER = 0x9E3779B97F4A7C15


def draw(
  num_items: int, num_codes: int, num_levels: int, skew: bool, seed: int
) -> UInt[np.ndarray, 'items l']:
  """Draws a catalogue in which no ID repeats.

  What repeats is drawn again, up to 16 times in all. That completes a uniform
  catalogue, unless there are fewer IDs than items asked for. A skewed one may
  stay smaller, for its rare IDs hardly ever come up.

  Args:
    num_items: Items asked for.
    num_codes: Codes at each level.
    num_levels: Levels of an ID.
    skew: Whether the next code, given the codes before it, follows Zipf's law
      with exponent 1.2; which code is the likeliest depends on those before.
      Otherwise all IDs are equally likely.
    seed: Of everything random.

  Returns:
    IDs in ascending order, of as few bytes as a code fits in.
  """
  rng = np.random.default_rng(seed)
  space = num_codes**num_levels
  num_items = min(num_items, space)
  groups = _groups(num_codes, num_levels)
  if not skew and space <= 4 * num_items:  # Repeats would be the rule.
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
  """Draws what a network might say, of a standard normal distribution.

  Returns:
    For the first level `[b, 1, v]`, where there is one beam; for every other
    `[b, m, v]`. What a beam is told depends on its place, not on its codes.
  """
  rng = np.random.default_rng(seed)
  return [
    rng.standard_normal(
      (batch_size, num_beams if level else 1, num_codes), np.float32
    )
    for level in range(num_levels)
  ]


def _groups(num_codes: int, num_levels: int) -> list[int]:
  """Returns how many levels each key of 64 bits takes, first levels first."""
  most = 1
  while most < num_levels and num_codes ** (most + 1) < 2**63:
    most += 1
  return [min(most, num_levels - i) for i in range(0, num_levels, most)]


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
  """Draws ranks, and looks their codes up at an offset that the prefix sets.

  Args:
    by_rank: All codes, shuffled.
    rng: Draws the ranks.
    count: How many IDs.
    num_codes: Codes at each level.
    groups: Levels in each key.
  """
  by_rank = by_rank.astype(np.uint64)
  shares = np.arange(1, num_codes + 1) ** -_EXPONENT
  cumulative = np.cumsum(shares / shares.sum())
  cumulative[-1] = 1  # What is drawn lies below.
  keys = np.zeros((len(groups), count), np.uint64)
  # In chunks, so that what a level needs stays in the processor's cache.
  for start in range(0, count, _CHUNK):
    chunk = keys[:, start : start + _CHUNK]
    prefix = np.zeros(chunk.shape[1], np.uint64)
    for key, size in zip(chunk, groups, strict=True):
      for _ in range(size):
        rank = np.searchsorted(cumulative, rng.random(len(key)), 'right')
        place = rank.astype(np.uint64) + (prefix >> 40)
        code = by_rank[place % num_codes]
        key *= num_codes
        key += code
        prefix = (prefix + code + 1) * _MULTIPLIER
        prefix ^= prefix >> 32
  return keys


def _sorted_unique(
  keys: UInt64[np.ndarray, 'keys n'],
) -> UInt64[np.ndarray, 'keys items']:
  if len(keys) == 1:
    keys = np.sort(keys)  # Several times as fast.
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
