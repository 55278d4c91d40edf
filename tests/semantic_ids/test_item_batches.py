"""Tests that batches depend only on the step, and statistics equal NumPy."""

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


def test_batches_do_not_depend_on_the_order_of_access():
  batches, other = (
    item_batches.ItemBatches(_numbered(10), 3, seed=1) for _ in range(2)
  )
  in_order = [batches[step] for step in range(9)]
  for step in (8, 0, 5, 2, 7):
    np.testing.assert_array_equal(other[step], in_order[step])
  assert all(len(batch) == 3 for batch in in_order)


def test_orders_of_two_epochs_are_cached():
  batches = item_batches.ItemBatches(_numbered(12), 4, seed=7)
  orders = [batches._order(epoch) for epoch in (0, 1)]
  for epoch in (0, 1, 0, 1):
    assert batches._order(epoch) is orders[epoch]
  batches._order(2)
  assert batches._order(1) is orders[1]
  assert batches._order.cache_info().currsize == 2


def test_batch_size_is_at_most_the_number_of_items():
  batches = item_batches.ItemBatches(_numbered(5), 1024, seed=0)
  assert batches.steps_per_epoch == 1
  assert batches[0].shape == (5, 1)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_std_of_a_constant_dimension_is_one(dtype):
  rng = np.random.default_rng(0)
  x = rng.normal(3, 2, size=(50, 4))
  # In float32, this dimension cannot be distinguished from a constant.
  x[:, 1] = 5 + 1e-8 * rng.normal(size=50)
  x = x.astype(dtype)
  x[:, 2] = 0
  mean, std = item_batches.statistics(x, chunk_size=7)
  np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)
  np.testing.assert_allclose(std[[0, 3]], x.std(axis=0)[[0, 3]], rtol=1e-5)
  np.testing.assert_array_equal(std[[1, 2]], 1)


@pytest.mark.parametrize('dtype', [np.float16, np.float32])
def test_standardize_has_the_precision_of_float64(dtype):
  """With a sum in float32, the constant column would be -5222 instead of 0."""
  x = np.random.default_rng(0).normal(3, 2, (100_000, 2)).astype(dtype)
  x[:, 0] = 5.3
  standardized = item_batches.standardize(x)
  assert standardized.dtype == np.float32
  np.testing.assert_array_equal(standardized[:, 0], 0)
  column = x[:, 1].astype(np.float64)
  expected = (column - column.mean()) / column.std()
  np.testing.assert_allclose(standardized[:, 1], expected, atol=1e-5)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_statistics_refuse_values_that_are_not_finite(value):
  x = np.zeros((6, 3), np.float16)
  x[4, 1] = value
  with pytest.raises(NumbersError, match='item row 4 is not finite'):
    item_batches.statistics(x)


def test_refuses_an_empty_catalog():
  with pytest.raises(DataError, match='no item embeddings'):
    item_batches.statistics(np.zeros((0, 3), np.float32))


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize('num_items', [0, 1, 7, 8, 9, 25])
def test_map_items_applies_the_function_to_each_row(dtype, num_items):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(num_items, 3)).astype(dtype)
  shapes = set()

  def fn(x):
    shapes.add(x.shape)
    assert x.dtype == np.float32
    return jnp.stack([x.sum(axis=1), x[:, 0]], axis=1)

  outputs = item_batches.map_items(fn, x, batch_size=8)
  x = x.astype(np.float32)
  assert outputs.shape == (num_items, 2)
  np.testing.assert_allclose(
    outputs, np.stack([x.sum(axis=1), x[:, 0]], axis=1), rtol=1e-6
  )
  assert len(shapes) == 1


def test_map_items_reads_a_memory_mapped_file(tmp_path):
  path = tmp_path / 'embeddings.npy'
  x = np.random.default_rng(0).normal(size=(9000, 5)).astype(np.float16)
  np.save(path, x)
  outputs = item_batches.map_items(
    lambda x: x.argmax(axis=1), np.load(path, mmap_mode='r')
  )
  np.testing.assert_array_equal(outputs, x.argmax(axis=1))


def test_stack_equals_the_batches():
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


def test_steps_per_call_are_whole_epochs_if_the_device_holds_all_items():
  def steps(num_items, dim, batch_size):
    x = np.broadcast_to(np.float16(0), (num_items, dim))
    return item_batches.ItemBatches(x, batch_size, 0).steps_per_call

  assert steps(600, 64, 256) == 64  # 32 epochs.
  assert steps(12_101, 384, 1024) == 55  # 5 epochs.
  assert steps(12_101, 384, 32) == 378  # One epoch.
  assert steps(10**6, 384, 1024) == 10
  assert steps(10**6, 10**4, 1024) == 1
