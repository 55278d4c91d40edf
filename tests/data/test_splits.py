from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from tiger_jax.data import splits
from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.errors import UsageError


def make_dataset(lengths, num_items=50, seed=0):
  rng = np.random.default_rng(seed)
  ids = tuple(str(row) for row in range(num_items))
  return Dataset(
    name='random',
    items=Items(ids=ids, fields={name: ids for name in FIELDS}),
    user_ids=tuple(f'u{user}' for user in range(len(lengths))),
    history=rng.integers(0, num_items, sum(lengths)).astype(np.int32),
    offsets=np.cumsum([0, *lengths]).astype(np.int64),
  )


def worked_dataset():
  """User 0 has items 0 to 4. User 1 has items 5 to 7, too few for training."""
  dataset = make_dataset([5, 3])
  dataset.history[:] = np.arange(8)
  return dataset


@pytest.mark.parametrize(
  ('name', 'pairs'),
  [
    ('train', [(0, [0], 1), (0, [0, 1], 2)]),
    ('validation', [(0, [0, 1, 2], 3), (1, [5], 6)]),
    ('test', [(0, [0, 1, 2, 3], 4), (1, [5, 6], 7)]),
  ],
)
def test_examples_equal_those_found_by_hand(name, pairs):
  dataset = worked_dataset()
  examples = splits.split(dataset, name)
  assert examples.user.dtype == np.int32
  assert examples.start.dtype == examples.end.dtype == np.int64
  assert [
    (int(user), dataset.history[start:end].tolist(), int(dataset.history[end]))
    for user, start, end in zip(*examples, strict=True)
  ] == pairs
  lengths = splits.history_lengths(examples)
  assert lengths.tolist() == [len(history) for _, history, _ in pairs]


def test_training_excludes_the_last_two_events():
  is_training = splits.training_positions(make_dataset([5, 3, 4]))
  assert np.flatnonzero(is_training).tolist() == [0, 1, 2, 5, 8, 9]


def test_each_event_except_the_first_is_a_target_once():
  dataset = make_dataset([3, 4, 9, 30])
  ends = [
    splits.split(dataset, name).end for name in ('train', 'validation', 'test')
  ]
  together = np.sort(np.concatenate(ends))
  first_events = dataset.offsets[:-1]
  every_event = np.arange(dataset.num_interactions)
  np.testing.assert_array_equal(
    together, np.setdiff1d(every_event, first_events)
  )


def test_an_unknown_split_is_refused():
  with pytest.raises(UsageError, match='train, validation or test'):
    splits.split(worked_dataset(), 'eval')


@pytest.mark.parametrize('width', [1, 3, 40])
@pytest.mark.parametrize('name', ['train', 'validation', 'test'])
def test_gather_equals_slicing(name, width):
  dataset = make_dataset([3, 4, 9, 30])
  examples = splits.split(dataset, name)
  examples = examples.at(
    np.random.default_rng(1).permutation(len(examples.user))
  )
  batch = splits.gather(dataset.history, examples, width)
  assert batch.history.shape == (len(examples.user), width)
  assert all(array.dtype == np.int32 for array in batch)
  for example, history, user, target in zip(
    zip(*examples, strict=True), *batch, strict=True
  ):
    expected_user, start, end = example
    latest = dataset.history[start:end].tolist()[-width:]
    assert history.tolist() == latest + [-1] * (width - len(latest))
    assert user == expected_user
    assert target == dataset.history[end]


def test_windows_equal_those_found_by_hand():
  """Of ten events, 1 to 7 are training targets. A window has at most three."""
  dataset = make_dataset([10, 3, 4])
  windows = splits.sequences(dataset, 3)
  assert list(zip(*(x.tolist() for x in windows), strict=True)) == [
    (0, 4, 7),
    (0, 1, 4),
    (0, 0, 1),
    (2, 13, 14),
  ]


@settings(max_examples=200, deadline=None)
@given(
  lengths=st.lists(st.integers(3, 40), min_size=1, max_size=12),
  max_history=st.integers(1, 45),
)
def test_prefixes_of_sequences_are_the_training_examples(lengths, max_history):
  dataset = make_dataset(lengths)
  windows = splits.sequences(dataset, max_history)
  assert windows.user.dtype == np.int32
  prefixes = [
    (user, end)
    for user, start, stop in zip(*windows, strict=True)
    for end in range(start + 1, stop + 1)
  ]
  examples = splits.split(dataset, 'train')
  # A sorted list and not a set, so that repeats are noticed.
  assert sorted(prefixes) == list(zip(examples.user, examples.end, strict=True))
  sizes = splits.history_lengths(windows)
  assert sizes.max(initial=1) <= max_history
  assert sizes.min(initial=1) >= 1
  first = dataset.offsets[windows.user]
  num_targets = np.asarray(lengths)[windows.user] - 3
  assert (windows.start >= first).all()
  short = num_targets <= max_history
  np.testing.assert_array_equal(windows.start[short], first[short])
  # All windows of a long history are full, except the first.
  later = windows.start > first
  np.testing.assert_array_equal(sizes[later], max_history)
