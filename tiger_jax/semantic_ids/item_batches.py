"""Batches and statistics of item embeddings on the host."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32
import numpy as np

from tiger_jax.errors import DataError, NumbersError

# One jitted call runs about `_CALL_STEPS` steps. If embeddings must be sent to
# the device, a call gets at most `_CALL_BYTES` of them. Signals are handled
# only between calls.
_CALL_STEPS = 64
_CALL_BYTES = 2**24
# The smallest size to which batches are padded. Each size needs a program.
_MIN_BATCH = 1024


class ItemBatches:
  """Batches of item embeddings, indexed by step.

  The order of the items in an epoch is a pure function of the seed and the
  epoch. The last items of an epoch are skipped if they do not fill a batch.

  Attributes:
    embeddings: The embeddings of all items.
    steps_per_epoch: Number of batches in one epoch, at least one.
    resident: Whether the device holds all items, so that a batch needs only row
      numbers.
    steps_per_call: Number of batches in one jitted call. It is a multiple of
      `steps_per_epoch` if the items are resident.
  """

  def __init__(
    self,
    embeddings: Float[np.ndarray, 'items dim'],
    batch_size: int,
    seed: int,
    *,
    resident_bytes: int = 2**28,
  ):
    """Makes the batches of a catalog.

    Args:
      embeddings: The embeddings of all items.
      batch_size: Batch size, limited to the number of items.
      seed: Random seed of the order.
      resident_bytes: The device holds all items if their float32 embeddings
        have at most this size.

    Raises:
      DataError: There are no items.
    """
    self.embeddings = embeddings
    if not len(embeddings):
      raise DataError('there are no item embeddings: embed at least one item')
    self._batch_size = min(batch_size, len(embeddings))
    self._seed = seed
    # Two prefetching threads may read from different epochs.
    self._order = functools.lru_cache(maxsize=2)(self._make_order)
    self.steps_per_epoch = len(embeddings) // self._batch_size
    item_bytes = embeddings.shape[1] * 4
    self.resident = len(embeddings) * item_bytes <= resident_bytes
    fitting = _CALL_BYTES // (self._batch_size * item_bytes)
    self.steps_per_call = max(1, min(_CALL_STEPS, fitting))
    if self.resident:
      epochs = max(1, _CALL_STEPS // self.steps_per_epoch)
      self.steps_per_call = epochs * self.steps_per_epoch

  def __getitem__(self, step: int) -> Float[np.ndarray, 'b dim']:
    """Returns the float32 batch of a step."""
    return self.embeddings[self.rows(step)].astype(np.float32, copy=False)

  def stack(
    self, start: int, stop: int
  ) -> Int32[np.ndarray, 'n b'] | Float[np.ndarray, 'n b dim']:
    """Stacks the batches of the steps from `start` up to `stop`.

    The batches hold row numbers if the items are resident, otherwise
    embeddings.
    """
    rows = np.stack([self.rows(step) for step in range(start, stop)])
    if self.resident:
      return rows
    return self.embeddings[rows].astype(np.float32, copy=False)

  def rows(self, step: int) -> Int32[np.ndarray, ' b']:
    """Returns the item rows in the batch of a step."""
    epoch, i = divmod(step, self.steps_per_epoch)
    return self._order(epoch)[i * self._batch_size : (i + 1) * self._batch_size]

  def _make_order(self, epoch: int) -> Int32[np.ndarray, ' items']:
    rows = np.arange(len(self.embeddings), dtype=np.int32)
    np.random.default_rng((self._seed, epoch)).shuffle(rows)
    return rows


def sample(
  embeddings: Float[np.ndarray, 'items dim'], at_most: int
) -> Float[np.ndarray, 'n dim']:
  """Returns a fixed random sample of at most `at_most` embeddings, in float32.

  The sample is in the order of the items and the same in every call.
  """
  rows = slice(None)
  if len(embeddings) > at_most:
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(embeddings), at_most, replace=False))
  return embeddings[rows].astype(np.float32)


def padded_size(num_items: int, batch_size: int) -> int:
  """Returns the batch size for a number of items.

  Only few sizes are possible, because each size needs a compiled program.

  Args:
    num_items: The number of items.
    batch_size: The maximum batch size.
  """
  return min(batch_size, max(_MIN_BATCH, 1 << (num_items - 1).bit_length()))


def map_items(
  fn: Callable[[Float[Array, 'b dim']], jax.Array],
  embeddings: Float[np.ndarray, 'items dim'],
  *,
  batch_size: int = 4096,
) -> np.ndarray:
  """Applies a function to all items, in batches of one shape.

  `fn` must map each row independently, because the last batch is padded.
  """
  num_items = len(embeddings)
  size = padded_size(num_items, batch_size)

  def dispatch(start):
    x = embeddings[start : start + size]
    # float16 is converted on the device, to send fewer bytes.
    if x.dtype != np.float16:
      x = x.astype(np.float32, copy=False)
    if len(x) < size:
      x = np.pad(x, ((0, size - len(x)), (0, 0)))
    return fn(jnp.asarray(x).astype(jnp.float32))

  current = dispatch(0)
  outputs = np.empty((num_items, *current.shape[1:]), current.dtype)
  for start in range(0, num_items, size):
    # The device computes the next batch while the host waits for this one.
    following = dispatch(start + size) if start + size < num_items else None
    outputs[start : start + size] = np.asarray(current)[: num_items - start]
    current = following
  return outputs


def statistics(
  embeddings: Float[np.ndarray, 'items dim'], *, chunk_size: int = 65536
) -> tuple[Float[np.ndarray, ' dim'], Float[np.ndarray, ' dim']]:
  """Returns the mean and the standard deviation of every dimension, in float32.

  The standard deviation of a constant dimension is set to 1. At most
  `chunk_size` items at a time are converted to float64.

  Raises:
    DataError: There are no items.
    NumbersError: A value is not finite.
  """
  num_items = len(embeddings)
  if not num_items:
    raise DataError('there are no item embeddings: embed at least one item')
  chunks = range(0, num_items, chunk_size)
  total = np.zeros(embeddings.shape[1], np.float64)
  for start in chunks:
    chunk = embeddings[start : start + chunk_size]
    finite = np.isfinite(chunk).all(axis=1)
    if not finite.all():
      raise NumbersError(
        f'the embedding of item row {start + np.argmin(finite)} is not '
        'finite: embed the items again'
      )
    total += chunk.sum(axis=0, dtype=np.float64)
  mean = total / num_items
  squares = np.zeros_like(mean)
  for start in chunks:
    chunk = embeddings[start : start + chunk_size]
    squares += np.square(chunk - mean).sum(axis=0)
  std = np.sqrt(squares / num_items)
  # Deviations below the precision of float32 are noise; do not amplify them.
  std[std <= 1e-6 * np.abs(mean)] = 1
  return mean.astype(np.float32), std.astype(np.float32)


def standardize(
  embeddings: Float[np.ndarray, 'items dim'],
) -> Float[np.ndarray, 'items dim']:
  """Scales every dimension to mean 0 and variance 1.

  Constant dimensions become 0.
  """
  mean, std = statistics(embeddings)
  return (embeddings.astype(np.float32) - mean[None]) / std[None]
