"""Tests the helpers of the benchmarks: timing, comparison and tables."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import catalogs, masks, measuring, quality, windows
from tiger_jax.data import splits
from tiger_jax.data.sources import synthetic


def test_sides_are_timed_in_turns():
  order = []

  def side(name, seconds):
    def run(i):
      order.append((name, i))
      time.sleep(seconds)

    return run

  seconds = measuring.in_turns({'a': side('a', 0.02), 'b': side('b', 0)}, 3)
  assert [i for _, i in order] == [0, 0, 1, 1, 2, 2]
  assert order[0][0] != order[1][0] == order[2][0] != order[3][0]
  assert seconds['a'].shape == seconds['b'].shape == (3,)
  assert (seconds['a'] >= 0.02).all()


def test_spread_is_the_median_and_the_quartiles():
  assert measuring.spread(np.array([9.0, 1, 2, 3, 4]), 1) == '3.0 (2.0 to 4.0)'


def test_warm_up_rounds_are_not_timed():
  rounds = []
  seconds = measuring.in_turns({'a': rounds.append}, 2, num_warm=3)
  assert rounds == [0, 1, 2, 0, 1]
  assert seconds['a'].shape == (2,)


def test_percentiles_are_the_10th_the_50th_and_the_90th():
  values = np.arange(11.0)
  assert measuring.percentiles(values) == [1.0, 5.0, 9.0]
  assert measuring.spread(values, 0, ends=10) == '5 (1 to 9)'


def test_only_near_ties_may_swap():
  scores = np.array([[-1.0, -2.0, -2.00001, -3.0]])
  ours = np.array([[5, 6, 7, 8]])
  measuring.compare('they', ours, ours, scores)
  measuring.compare('they', ours, np.array([[5, 7, 6, 8]]), scores)
  # The last result may differ.
  measuring.compare('they', ours, np.array([[5, 6, 7, 9]]), scores)
  for theirs in ([6, 5, 7, 8], [4, 6, 7, 8]):
    with pytest.raises(measuring.Mismatch, match='they: 25.00% of the results'):
      measuring.compare('they', ours, np.array([theirs]), scores)


def test_blocking_functions_return_the_results():
  sides = measuring.blocking({'a': lambda: jnp.arange(3), 'b': lambda: 7})
  assert sides['a'](0).tolist() == [0, 1, 2]
  assert sides['b'](1) == 7


@pytest.mark.parametrize('skew', [False, True])
def test_the_timed_search_finds_the_same_ids_as_numpy(skew):
  shape = masks.Shape(16, 4, 2000, skew)
  codes, catalog, _ = shape.draw()
  assert catalog.size == len(codes)
  logits = shape.logits(3, 12)
  beams = jax.device_get(masks.search(catalog, logits, 12))
  expected = masks.slow_search(codes, jax.device_get(logits), 12)
  np.testing.assert_array_equal(beams.codes, expected)
  any_codes, scores = masks.unmasked(catalog, logits, 12)
  assert not catalog.contains(np.asarray(any_codes).reshape(-1, 4)).all()
  assert (scores[:, 0] >= beams.scores[:, 0]).all()


def test_logits_have_one_beam_at_the_first_level():
  logits = catalogs.logits(2, 5, 7, 3, seed=0)
  assert [x.shape for x in logits] == [(2, 1, 7), (2, 5, 7), (2, 5, 7)]


def test_a_table_aligns_numbers_to_the_right():
  assert measuring.table(['', 'n'], [['a', 1], ['b', 2]]) == (
    '|  | n |\n| --- | ---: |\n| a | 1 |\n| b | 2 |'
  )


def test_a_quality_row_formats_every_measure(tmp_path):
  shares = [0.5, 0.25]
  values = {
    'usage': [1.0, 0.75],
    'unique_prefix_rate': shares,
    'collision_rate': shares,
    'worst_collision': 7,
    'reconstruction_error': None,
    'category_purity': shares,
    'category_purity_by_chance': [0.125, 0.1],
    'neighbor_agreement': shares,
    'neighbor_agreement_by_chance': [0.1, 0.0],
  }
  (tmp_path / 'quality.json').write_text(json.dumps(values))
  (tmp_path / 'stage.json').write_text(json.dumps({'seconds': 1.25}))
  assert quality.row(tmp_path) == [
    '1.2', '100.0% / 75.0%', '25.0%', '25.0%', '7', '-', '50.0% (12.5%)',
    '50.0% / 25.0%', '10.0% / 0.0%',
  ]  # fmt: skip


@pytest.mark.parametrize('max_history', [1, 4, 10])
def test_the_share_of_shortened_histories_equals_brute_force(max_history):
  dataset = synthetic.make(60, seed=0)
  in_window = {}
  _, starts, ends = splits.sequences(dataset, max_history)
  for start, end in zip(starts, ends, strict=True):
    in_window |= {x: x - start for x in range(start + 1, end + 1)}
  _, starts, ends = splits.split(dataset, 'train')
  assert sorted(in_window) == sorted(ends.tolist())
  short = [
    min(end - start, max_history) > in_window[end]
    for start, end in zip(starts, ends, strict=True)
  ]
  expected = sum(short) / len(short)
  assert windows.shortened(dataset, max_history) == pytest.approx(expected)
  assert (expected > 0.1) == (max_history > 1)
