"""What the benchmark prints is what was timed and found."""

import json
import time

import numpy as np

from benchmarks import measuring, quality


def test_sides_take_turns_and_are_timed():
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


def test_table():
  assert measuring.table(['', 'n'], [['a', 1], ['b', 2]]) == (
    '|  | n |\n| --- | ---: |\n| a | 1 |\n| b | 2 |'
  )


def test_a_row_of_quality(tmp_path):
  shares = [0.5, 0.25]
  found = {
    'usage': [1.0, 0.75],
    'unique_prefix_rate': shares,
    'collision_rate': shares,
    'worst_collision': 7,
    'reconstruction_error': None,
    'category_purity': shares,
    'category_purity_by_chance': [0.125, 0.1],
    'neighbour_agreement': shares,
    'neighbour_agreement_by_chance': [0.1, 0.0],
  }
  (tmp_path / 'quality.json').write_text(json.dumps(found))
  (tmp_path / 'stage.json').write_text(json.dumps({'seconds': 1.25}))
  assert quality.row(tmp_path) == [
    '1.2', '100.0% / 75.0%', '25.0%', '25.0%', '7', '-', '50.0% (12.5%)',
    '50.0% / 25.0%', '10.0% / 0.0%',
  ]  # fmt: skip
