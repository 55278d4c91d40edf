"""Tests that STATIC and its baselines agree with a simple beam search."""

import os
import pathlib

import jax
import numpy as np
import pytest

from benchmarks import catalogs
from benchmarks.peers import static_decoding


@pytest.fixture
def checkout():
  value = os.environ.get('TIGER_JAX_BENCH_STATIC', '')
  if not value:
    pytest.skip('needs STATIC: set TIGER_JAX_BENCH_STATIC to its checkout')
  # STATIC broadcasts arrays of different rank.
  with jax.numpy_rank_promotion('allow'):
    yield pathlib.Path(value)


def _beam_search(codes, logits, num_beams):
  """Runs a beam search in a trie, one user and one beam at a time."""
  trie = {}
  for row in codes.tolist():
    node = trie
    for code in row:
      node = node.setdefault(code, {})
  codes_of_users, scores = [], []
  for user in range(len(logits[0])):
    beams = [(0.0, (), trie)]
    for level in logits:
      x = level[user].astype(np.float64)
      log_probs = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
      beams = [
        (score + log_probs[i, code], (*prefix, code), child)
        for i, (score, prefix, node) in enumerate(beams)
        for code, child in sorted(node.items())
      ]
      beams = sorted(beams, key=lambda beam: -beam[0])[:num_beams]
    codes_of_users.append([prefix for _, prefix, _ in beams])
    scores.append([score for score, _, _ in beams])
  return np.array(codes_of_users), np.array(scores)


@pytest.mark.parametrize('skew', [False, True])
@pytest.mark.parametrize(
  ('num_items', 'num_codes', 'num_levels'),
  [(200, 8, 3), (2000, 32, 4), (500, 16, 5), (100_000, 256, 4)],
)
def test_exact_searches_agree(checkout, num_items, num_codes, num_levels, skew):
  num_beams = 6
  codes = catalogs.draw(num_items, num_codes, num_levels, skew, seed=1)
  logits = catalogs.logits(3, num_beams, num_codes, num_levels, seed=2)
  expected, expected_scores = _beam_search(codes, logits, num_beams)
  assert expected.shape == (3, num_beams, num_levels)  # All beams are alive.

  static = static_decoding.Static(checkout, codes, num_codes)
  beams, scores = static.kernel(logits, num_beams)
  np.testing.assert_array_equal(beams, expected)
  np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)
  shipped = static.shipped(logits, num_beams, tokens_per_beam=num_beams)
  np.testing.assert_array_equal(shipped, expected)
  for build in static_decoding.ppv, static_decoding.cpu_trie:
    baseline = build(checkout, codes, num_codes)
    np.testing.assert_array_equal(baseline.search(logits, num_beams), expected)


def test_a_search_with_few_tokens_per_beam_is_not_exact(checkout):
  codes = catalogs.draw(2000, 32, 4, skew=False, seed=1)
  logits = catalogs.logits(8, 16, 32, 4, seed=2)
  static = static_decoding.Static(checkout, codes, 32)
  beams, _ = static.kernel(logits, 16)
  assert (static.shipped(logits, 16, tokens_per_beam=2) != beams).any()


def test_the_kernel_marks_dead_beams(checkout):
  codes = catalogs.draw(5, 16, 4, skew=False, seed=1)
  logits = catalogs.logits(3, 8, 16, 4, seed=2)
  beams, scores = static_decoding.Static(checkout, codes, 16).kernel(logits, 8)
  for user_beams, user_scores in zip(beams, scores, strict=True):
    alive = np.isfinite(user_scores)
    np.testing.assert_array_equal(alive, 5 * [True] + 3 * [False])
    np.testing.assert_array_equal(np.unique(user_beams[:5], axis=0), codes)


def test_a_hash_bitmap_is_correct_without_code_zero(checkout):
  codes = 1 + catalogs.draw(2000, 31, 4, skew=False, seed=1)
  logits = catalogs.logits(3, 6, 32, 4, seed=2)
  expected, _ = _beam_search(codes, logits, 6)
  bitmap = static_decoding.hash_bitmap(checkout, codes, 32)
  assert bitmap.nbytes == 2**27
  np.testing.assert_array_equal(bitmap.search(logits, 6), expected)


def test_every_search_compiles_once(checkout, caplog):
  codes = catalogs.draw(1000, 24, 3, skew=False, seed=1)
  static = static_decoding.Static(checkout, codes, 24)
  baselines = [
    build(checkout, codes, 24)
    for build in (static_decoding.ppv, static_decoding.cpu_trie)
  ]

  def search(seed):
    logits = catalogs.logits(2, 4, 24, 3, seed)
    static.kernel(logits, 4)
    static.shipped(logits, 4, tokens_per_beam=4)
    for baseline in baselines:
      baseline.search(logits, 4)

  def num_compiled():
    return sum('Compiling' in record.message for record in caplog.records)

  with jax.log_compiles():
    search(0)
    before = num_compiled()
    search(1)
  assert before >= 4
  assert num_compiled() == before


def test_nbytes_counts_every_table_of_the_index(checkout):
  codes = catalogs.draw(1000, 16, 3, skew=False, seed=1)
  pairs = len(np.unique(codes[:, :2], axis=0))
  edges = pairs + len(codes) + 16  # STATIC adds one row per code.
  states = 16 + pairs + 3
  tables = 16 + 256 + 4 * 256
  static = static_decoding.Static(checkout, codes, 16)
  assert static.nbytes == 8 * edges + 4 * states + tables
  assert static.build_seconds > 0
  ppv = static_decoding.ppv(checkout, codes, 16)
  assert ppv.nbytes == 4 * codes.size


def test_a_folder_that_is_not_a_checkout_is_refused(tmp_path):
  codes = catalogs.draw(10, 16, 3, skew=False, seed=1)
  with pytest.raises(SystemExit, match=r'decoding_jax.py is missing: set'):
    static_decoding.Static(tmp_path, codes, 16)
  (tmp_path / 'benchmarks').mkdir()
  (tmp_path / 'benchmarks/baselines_jax.py').write_text('build_trie = 1\n')
  with pytest.raises(SystemExit, match='has no generic_beam_search_jax, make'):
    static_decoding.ppv(tmp_path, codes, 16)
