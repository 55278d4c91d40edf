"""Tests ranges of skipped batches against lists of batch numbers."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from tiger_jax.checkpoints import skipped

# Windows of steps whose batches are skipped, applied in order.
WINDOWS = st.lists(
  st.tuples(st.integers(0, 30), st.integers(1, 15)).map(
    lambda x: (x[0], x[0] + x[1])
  ),
  max_size=5,
)
END = 200


def brute_force(windows):
  """Returns the numbers of the batches that are trained on, in order."""
  numbers = list(range(END))
  for start, stop in windows:
    del numbers[start:stop]
  return numbers


def ranges_of(windows):
  ranges = ()
  for start, stop in windows:
    ranges = skipped.skip(ranges, start, stop)
  return ranges


@given(WINDOWS, st.integers(0, 60), st.integers(0, 60))
def test_batch_numbers_equal_brute_force(windows, start, size):
  ranges, numbers = ranges_of(windows), brute_force(windows)
  assert skipped.batch_number(ranges, start) == numbers[start]
  segments = list(skipped.segments(ranges, start, start + size))
  flat = [number for first, end in segments for number in range(first, end)]
  assert flat == numbers[start : start + size]
  assert all(first < end for first, end in segments)


@given(WINDOWS)
def test_ranges_are_sorted_and_separate(windows):
  ranges = ranges_of(windows)
  flat = [number for pair in ranges for number in pair]
  assert flat == sorted(set(flat))
  excluded = {n for start, stop in ranges for n in range(start, stop)}
  assert excluded == set(range(END)) - set(brute_force(windows))
  pairs = [list(pair) for pair in ranges]
  assert skipped.from_json(pairs) == ranges


@pytest.mark.parametrize(
  ('num_steps', 'expected'), [(0, 0), (3, 0), (4, 4), (8, 4), (9, 9), (20, 9)]
)
def test_last_start_is_the_number_of_steps_before_the_last_range(
  num_steps, expected
):
  """Batches 4 to 6 are skipped after 4 steps, and 12 and 13 after 9 steps."""
  assert skipped.last_start(((4, 7), (12, 14)), num_steps) == expected
  assert skipped.last_start((), num_steps) == 0


def test_stacks_come_with_the_number_of_their_first_batch():
  requests = []

  def batches(start, stop):
    requests.append((start, stop))
    for first in range(start, stop, 2):
      yield {'x': np.arange(first, min(first + 2, stop))}

  stacks = list(skipped.read(batches, ((2, 4), (8, 12)), 1, 7))
  assert requests == [(1, 2), (4, 8), (12, 13)]
  assert [(number, stack['x'].tolist()) for number, stack in stacks] == [
    (1, [1]),
    (4, [4, 5]),
    (6, [6, 7]),
    (12, [12]),
  ]


@pytest.mark.parametrize('number', [0, 1, 60])
def test_the_number_of_an_earlier_version_becomes_a_range(number):
  """Earlier versions saved a number n and added it to later batch numbers."""
  ranges = skipped.from_json(number)
  assert len(ranges) == (number > 0)
  for num_steps in (0, 5, 400):
    assert skipped.batch_number(ranges, num_steps) == num_steps + number


@pytest.mark.parametrize(
  'value',
  [
    'x', -1, True, None, {}, 1.5, [1], [[1]], [[1, 2, 3]], [[2, 2]], [[-1, 2]],
    [[4, 6], [1, 2]], [[1, 3], [3, 5]], [[1, 2.5]], [[0, True]], ['ab'],
  ],
)  # fmt: skip
def test_invalid_values_are_refused(value):
  with pytest.raises(ValueError, match='skipped of meta.json is'):
    skipped.from_json(value)


def test_to_text_names_the_first_and_the_last_batch_of_each_range():
  assert skipped.to_text(((4, 7), (9, 10))) == '4 to 6, 9 to 9'
