"""Item embeddings on the host: their statistics, and batches of them."""

from collections.abc import Callable
import threading

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32
import numpy as np

from tiger_jax.errors import DataError, NumbersError

# A call of the device takes about so many steps, but where it must be sent the
# embeddings, no more than so many bytes: signals wait for its end.
_CALL_STEPS = 64
_CALL_BYTES = 2**24


class ItemBatches:
  """Batches of item embeddings, by step.

  Every epoch has its own order of the items, a pure function of the seed and
  the epoch. Its last items, too few for a batch, wait for another epoch's
  order.

  Attributes:
    embeddings: All items.
    steps_per_epoch: Batches in one epoch, at least one.
    resident: Whether the device can hold all items, so that a batch need only
      name their rows.
    steps_per_call: Batches that one call of the device takes; whole epochs
      where the items are resident.
  """

  def __init__(
    self,
    embeddings: Float[np.ndarray, 'items dim'],
    batch_size: int,
    seed: int,
    *,
    resident_bytes: int = 2**28,
  ):
    """Makes the batches of a catalogue.

    A `batch_size` above the number of items is lowered to it. Embeddings stay
    on the device if they take at most `resident_bytes` in float32.

    Raises:
      DataError: There are no items.
    """
    self.embeddings = embeddings
    if not len(embeddings):
      raise DataError('there are no item embeddings: embed at least one item')
    self._batch_size = min(batch_size, len(embeddings))
    self._seed = seed
    self._orders: dict[int, np.ndarray] = {}
    self._lock = threading.Lock()
    self.steps_per_epoch = len(embeddings) // self._batch_size
    item_bytes = embeddings.shape[1] * 4
    self.resident = len(embeddings) * item_bytes <= resident_bytes
    fitting = _CALL_BYTES // (self._batch_size * item_bytes)
    self.steps_per_call = max(1, min(_CALL_STEPS, fitting))
    if self.resident:
      epochs = max(1, _CALL_STEPS // self.steps_per_epoch)
      self.steps_per_call = epochs * self.steps_per_epoch

  def __getitem__(self, step: int) -> Float[np.ndarray, 'b dim']:
    """Returns the float32 batch of a step, the same whenever it is asked."""
    return self.embeddings[self.rows(step)].astype(np.float32, copy=False)

  def stack(
    self, start: int, stop: int
  ) -> Int32[np.ndarray, 'n b'] | Float[np.ndarray, 'n b dim']:
    """Returns the batches of the steps from `start` up to `stop`.

    Rows of the items where they are resident, embeddings where not.
    """
    rows = np.stack([self.rows(step) for step in range(start, stop)])
    if self.resident:
      return rows
    return self.embeddings[rows].astype(np.float32, copy=False)

  def rows(self, step: int) -> Int32[np.ndarray, ' b']:
    """Returns which items are in the batch of a step."""
    epoch, i = divmod(step, self.steps_per_epoch)
    return self._order(epoch)[i * self._batch_size : (i + 1) * self._batch_size]

  def _order(self, epoch: int) -> np.ndarray:
    # Threads that read ahead ask for the end of an epoch and the beginning of
    # the next in turns, so both orders are kept. Only one thread draws.
    with self._lock:
      if epoch not in self._orders:
        rows = np.arange(len(self.embeddings), dtype=np.int32)
        np.random.default_rng((self._seed, epoch)).shuffle(rows)
        latest = sorted(self._orders)[-1:]
        self._orders = {x: self._orders[x] for x in latest} | {epoch: rows}
      return self._orders[epoch]


def sample(
  embeddings: Float[np.ndarray, 'items dim'], at_most: int
) -> Float[np.ndarray, 'n dim']:
  """Returns at most `at_most` random embeddings in float32, in their order.

  The sample is the same in every call.
  """
  rows = slice(None)
  if len(embeddings) > at_most:
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(embeddings), at_most, replace=False))
  return embeddings[rows].astype(np.float32)


def map_items(
  fn: Callable[[Float[Array, 'b dim']], jax.Array],
  embeddings: Float[np.ndarray, 'items dim'],
  *,
  batch_size: int = 4096,
) -> np.ndarray:
  """Applies a function to all items, in batches of few different shapes.

  `fn` maps float32 rows to as many rows, each by itself, because some rows only
  fill the batch.
  """
  num_items = len(embeddings)
  size = min(batch_size, 1 << (num_items - 1).bit_length())

  def dispatch(start):
    x = embeddings[start : start + size]
    # Halves go to the device as they are, and are widened there.
    if x.dtype != np.float16:
      x = x.astype(np.float32, copy=False)
    if len(x) < size:
      x = np.pad(x, ((0, size - len(x)), (0, 0)))
    return fn(jnp.asarray(x).astype(jnp.float32))

  pending = dispatch(0)
  outputs = np.empty((num_items, *pending.shape[1:]), pending.dtype)
  for start in range(0, num_items, size):
    # The device works on the next batch while the host waits for this one.
    following = dispatch(start + size) if start + size < num_items else None
    outputs[start : start + size] = np.asarray(pending)[: num_items - start]
    pending = following
  return outputs


def statistics(
  embeddings: Float[np.ndarray, 'items dim'], *, chunk_size: int = 65536
) -> tuple[Float[np.ndarray, ' dim'], Float[np.ndarray, ' dim']]:
  """Returns the mean and the standard deviation of every dimension, in float32.

  The deviation of a constant dimension is given as 1. `chunk_size` items at a
  time are converted to float64.

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
  # What float32 cannot tell from its mean would be noise, scaled up.
  std[std <= 1e-6 * np.abs(mean)] = 1
  return mean.astype(np.float32), std.astype(np.float32)


def standardize(
  embeddings: Float[np.ndarray, 'items dim'],
) -> Float[np.ndarray, 'items dim']:
  """Returns embeddings with mean 0 and variance 1 in every dimension.

  A dimension that is constant is 0.
  """
  mean, std = statistics(embeddings)
  return (embeddings.astype(np.float32) - mean[None]) / std[None]
