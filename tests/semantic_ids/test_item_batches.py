"""Batches are a function of the step; statistics are those of NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.errors import DataError, NumbersError
from tiger_jax.semantic_ids import item_batches


def _numbered(num_items):
  return np.arange(num_items, dtype=np.float16)[:, None]


def test_epochs_are_permutations_and_differ():
  batches = item_batches.ItemBatches(_numbered(12), 4, seed=7)
  assert batches.steps_per_epoch == 3
  epochs = [
    np.concatenate([batches[3 * epoch + i] for i in range(3)])[:, 0]
    for epoch in range(2)
  ]
  for epoch in epochs:
    np.testing.assert_array_equal(np.sort(epoch), np.arange(12))
  assert (epochs[0] != epochs[1]).any()
  assert epochs[0].dtype == np.float32


def test_a_step_is_the_same_in_any_order():
  one = item_batches.ItemBatches(_numbered(10), 3, seed=1)
  two = item_batches.ItemBatches(_numbered(10), 3, seed=1)
  forwards = [one[step] for step in range(9)]
  for step in (8, 0, 5, 2, 7):
    np.testing.assert_array_equal(two[step], forwards[step])
  assert all(len(batch) == 3 for batch in forwards)


def test_two_epochs_asked_in_turns_are_each_drawn_once():
  batches = item_batches.ItemBatches(_numbered(12), 4, seed=7)
  orders = [batches._order(epoch) for epoch in (0, 1)]
  for epoch in (0, 1, 0, 1):
    assert batches._order(epoch) is orders[epoch]
  batches._order(2)
  assert batches._order(1) is orders[1]
  assert sorted(batches._orders) == [1, 2]


def test_batch_is_cut_to_the_catalogue():
  batches = item_batches.ItemBatches(_numbered(5), 1024, seed=0)
  assert batches.steps_per_epoch == 1
  assert batches[0].shape == (5, 1)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_statistics_with_constant_dimensions(dtype):
  rng = np.random.default_rng(0)
  x = rng.normal(3, 2, size=(50, 4))
  # A dimension that float32 cannot distinguish from a constant counts as one.
  x[:, 1] = 5 + 1e-8 * rng.normal(size=50)
  x = x.astype(dtype)
  x[:, 2] = 0
  mean, std = item_batches.statistics(x, chunk_size=7)
  np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)
  np.testing.assert_allclose(std[[0, 3]], x.std(axis=0)[[0, 3]], rtol=1e-5)
  np.testing.assert_array_equal(std[[1, 2]], 1)


@pytest.mark.parametrize('dtype', [np.float16, np.float32])
def test_standardized_embeddings(dtype):
  """A float32 sum of 5.3 makes a constant column of -5222 instead of 0."""
  x = np.random.default_rng(0).normal(3, 2, (100_000, 2)).astype(dtype)
  x[:, 0] = 5.3
  found = item_batches.standardize(x)
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found[:, 0], 0)
  column = x[:, 1].astype(np.float64)
  expected = (column - column.mean()) / column.std()
  np.testing.assert_allclose(found[:, 1], expected, atol=1e-5)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(value):
  x = np.zeros((6, 3), np.float16)
  x[4, 1] = value
  with pytest.raises(NumbersError, match='item row 4 is not finite'):
    item_batches.statistics(x)


def test_no_items_is_one_line():
  with pytest.raises(DataError, match='no item embeddings'):
    item_batches.statistics(np.zeros((0, 3), np.float32))


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize('num_items', [0, 1, 7, 8, 9, 25])
def test_map_items_is_the_function_of_each_row(dtype, num_items):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(num_items, 3)).astype(dtype)
  shapes = set()

  def fn(x):
    shapes.add(x.shape)
    assert x.dtype == np.float32
    return jnp.stack([x.sum(axis=1), x[:, 0]], axis=1)

  found = item_batches.map_items(fn, x, batch_size=8)
  x = x.astype(np.float32)
  assert found.shape == (num_items, 2)
  np.testing.assert_allclose(
    found, np.stack([x.sum(axis=1), x[:, 0]], axis=1), rtol=1e-6
  )
  assert len(shapes) == 1


def test_map_items_reads_a_mapped_file(tmp_path):
  path = tmp_path / 'embeddings.npy'
  x = np.random.default_rng(0).normal(size=(9000, 5)).astype(np.float16)
  np.save(path, x)
  found = item_batches.map_items(
    lambda x: x.argmax(axis=1), np.load(path, mmap_mode='r')
  )
  np.testing.assert_array_equal(found, x.argmax(axis=1))


def test_a_stack_is_the_batches_of_its_steps():
  batches = item_batches.ItemBatches(_numbered(10), 3, seed=1)
  expected = [batches[step] for step in range(1, 6)]
  assert batches.resident
  rows = batches.stack(1, 6)
  assert rows.dtype == np.int32
  np.testing.assert_array_equal(batches.embeddings[rows], expected)
  batches = item_batches.ItemBatches(
    _numbered(10), 3, seed=1, resident_bytes=39
  )
  stack = batches.stack(1, 6)
  assert stack.dtype == np.float32
  np.testing.assert_array_equal(stack, expected)


def test_a_call_takes_what_signals_can_wait_for():
  def steps(num_items, dim, batch_size):
    x = np.broadcast_to(np.float16(0), (num_items, dim))
    return item_batches.ItemBatches(x, batch_size, 0).steps_per_call

  assert steps(600, 64, 256) == 64  # 32 epochs.
  assert steps(12_101, 384, 1024) == 55  # 5 epochs.
  assert steps(12_101, 384, 32) == 378  # One epoch.
  assert steps(10**6, 384, 1024) == 10
  assert steps(10**6, 10**4, 1024) == 1
