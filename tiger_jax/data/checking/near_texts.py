"""Finds texts that are equal or nearly equal."""

from collections.abc import Sequence
import dataclasses
import hashlib
import re

from jaxtyping import Int64, UInt64
import numpy as np

# The smallest Jaccard similarity of the n-grams of near duplicates.
NEAR = 0.9
SAMPLE = 20_000
_WORD = re.compile(r'\w+')
_GRAM = 5
_LONGEST = 1000
# 16 bands of 4 hashes find a pair with similarity 0.9 with probability
# 1 - (1 - 0.9**4)**16 > 0.9999999.
_BANDS, _ROWS = 16, 4
_BLOCK = 512
_MAX_PAIRS = 200_000
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class NearTexts:
  """Equal and nearly equal texts.

  Two texts are equal if their words are equal, apart from letter case. Near
  duplicates are searched for among the different texts of a sample.

  Attributes:
    equal: The number of texts that are equal to an earlier one.
    equal_rows: Up to three pairs of rows with equal texts.
    sampled: The number of different texts in the sample.
    near: The number of texts in the sample with a near duplicate.
    near_rows: Up to three pairs of rows with nearly equal texts.
  """

  equal: int
  equal_rows: tuple[tuple[int, int], ...]
  sampled: int
  near: int
  near_rows: tuple[tuple[int, int], ...]


def find(texts: Sequence[str], sample: int = SAMPLE) -> NearTexts:
  """Finds the equal texts, and the near duplicates in a sample.

  Args:
    texts: The text of each item.
    sample: The largest number of different texts to compare.
  """
  digests = np.fromiter(
    (_digest(' '.join(_words(text))) for text in texts), np.uint64, len(texts)
  )
  _, first, codes = np.unique(digests, return_index=True, return_inverse=True)
  copies = np.flatnonzero(first[codes] != np.arange(len(texts)))
  rows = np.sort(first)
  if len(rows) > sample:
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(rows, sample, replace=False))
  encoded = [
    ' '.join(_words(texts[row]))[:_LONGEST].encode('utf-8', 'replace')
    for row in rows.tolist()
  ]
  pairs = _near_pairs(encoded)
  return NearTexts(
    equal=len(copies),
    equal_rows=tuple(
      (int(first[codes[row]]), int(row)) for row in copies[:_SHOWN]
    ),
    sampled=len(rows),
    near=len(np.unique(pairs)),
    near_rows=tuple((int(rows[i]), int(rows[j])) for i, j in pairs[:_SHOWN]),
  )


def _words(text: str) -> list[str]:
  return _WORD.findall(text.casefold())


def _digest(text: str) -> int:
  data = text.encode('utf-8', 'replace')
  return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), 'little')


def _near_pairs(texts: list[bytes]) -> Int64[np.ndarray, 'pairs 2']:
  """Returns the pairs of near duplicates, by MinHash and bands (LSH).

  Texts with equal hashes in a band are sorted by their row, and each is
  compared only with the next. The number of comparisons is therefore linear.
  """
  none = np.zeros((0, 2), np.int64)
  if len(texts) < 2:
    return none
  blocks = range(0, len(texts), _BLOCK)
  hashes = np.concatenate([_min_hashes(texts[i : i + _BLOCK]) for i in blocks])
  candidates = [none]
  for band in range(_BANDS):
    part = hashes[:, band * _ROWS : (band + 1) * _ROWS]
    order = np.lexsort(part.T)
    same = (part[order[1:]] == part[order[:-1]]).all(axis=1)
    candidates.append(np.stack([order[:-1][same], order[1:][same]], axis=1))
  pairs = np.unique(np.sort(np.concatenate(candidates), axis=1), axis=0)
  is_near = [
    _similarity(texts[i], texts[j]) >= NEAR
    for i, j in pairs[:_MAX_PAIRS].tolist()
  ]
  return pairs[:_MAX_PAIRS][np.asarray(is_near, bool)]


def _min_hashes(texts: list[bytes]) -> UInt64[np.ndarray, 'texts hashes']:
  """Returns the smallest n-gram hash of each text for each hash function."""
  # A text with fewer bytes than an n-gram becomes one n-gram.
  padded = [text.ljust(_GRAM, b'\0') for text in texts]
  data = np.frombuffer(b''.join(padded), np.uint8).astype(np.uint64)
  grams = np.zeros(len(data) - _GRAM + 1, np.uint64)
  for i in range(_GRAM):
    grams |= data[i : i + len(grams)] << np.uint64(8 * i)
  counts = np.asarray([len(text) - _GRAM + 1 for text in padded])
  # The n-grams that span two texts are skipped.
  starts = np.cumsum(counts) - counts
  skipped = np.repeat(np.arange(len(texts)) * (_GRAM - 1), counts)
  grams = _mixed(grams[np.arange(len(skipped)) + skipped])
  rng = np.random.default_rng(0)
  factors = rng.integers(2**63, size=_BANDS * _ROWS, dtype=np.uint64) * 2 + 1
  return np.stack(
    [np.minimum.reduceat(_mixed(grams * x), starts) for x in factors], axis=1
  )


def _mixed(values: UInt64[np.ndarray, ' n']) -> UInt64[np.ndarray, ' n']:
  """Returns hashes of integers (the finalizer of MurmurHash3)."""
  values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
  return values ^ (values >> np.uint64(33))


def _similarity(a: bytes, b: bytes) -> float:
  """Returns the Jaccard similarity of the n-grams of two texts."""
  x, y = _grams(a), _grams(b)
  return len(x & y) / len(x | y)


def _grams(text: bytes) -> set[bytes]:
  count = max(1, len(text) - _GRAM + 1)
  return {text[i : i + _GRAM] for i in range(count)}
