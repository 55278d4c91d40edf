"""The device mesh, and where arrays lie on it."""

import re
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

# Batches are spread over both; `fsdp` holds a part of every parameter besides.
BATCH_AXES = ('data', 'fsdp')

# Which axes of the mesh the axes of a parameter are spread over, by the end of
# its path. The first rule that matches holds, for the optimizer's state of the
# parameter too. What no rule matches lies whole on every device, and so does an
# axis that the devices do not divide.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
  (r'(code|user)_embedding/embedding', ('tensor', 'fsdp')),
  (r'(query|key|value)/kernel', ('fsdp', 'tensor', None)),
  (r'out/kernel', ('tensor', None, 'fsdp')),
  (r'up/kernel', ('fsdp', 'tensor')),
  (r'down/kernel', ('tensor', 'fsdp')),
  (r'heads_\d+/kernel', ('fsdp', 'tensor')),
)


def make_mesh(
  devices: list[jax.Device] | None = None, fsdp: int = 1, tensor: int = 1
) -> Mesh:
  """Returns a mesh of the axes `data`, `fsdp` and `tensor`.

  Args:
    devices: Which devices; all of them, of all processes, where None.
    fsdp: Devices that share the parameters, each with batches of its own.
    tensor: Devices that share the parameters and the work on one batch.

  Raises:
    ValueError: The devices cannot be divided so.
  """
  devices = jax.devices() if devices is None else devices
  if len(devices) % (fsdp * tensor):
    raise ValueError(
      f'{len(devices)} devices cannot be divided by fsdp {fsdp} x tensor '
      f'{tensor}'
    )
  # Under explicit axes, which are the default, embedding look-ups fail.
  return jax.make_mesh(
    (len(devices) // (fsdp * tensor), fsdp, tensor),
    (*BATCH_AXES, 'tensor'),
    axis_types=(AxisType.Auto,) * 3,
    devices=devices,
  )


def num_batch_shards(mesh: Mesh) -> int:
  """Returns how many parts a batch is cut into."""
  return mesh.size // mesh.shape['tensor']


def put(tree: Any, shardings: Any) -> Any:
  """Returns host arrays where `shardings`, one for all or a tree, put them.

  Every process holds the whole arrays, and places what is of its devices.
  """

  def place(x: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(x, jax.Array) and x.committed and x.sharding == sharding:
      return x
    if sharding.is_fully_addressable:
      return jax.device_put(x, sharding)
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])

  if isinstance(shardings, NamedSharding):
    return jax.tree.map(lambda x: place(x, shardings), tree)
  return jax.tree.map(place, tree, shardings)


def fetch(tree: Any) -> Any:
  """Returns the whole arrays on every host; all processes must ask.

  The arrays are copies: what becomes of the device's does not touch them.
  """

  def get(x: Any) -> np.ndarray:
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
      assert isinstance(x.sharding, NamedSharding)
      whole = NamedSharding(x.sharding.mesh, PartitionSpec())
      x = jax.jit(lambda x: x, out_shardings=whole)(x).addressable_data(0)
    return np.array(x)

  return jax.tree.map(get, tree)


def replicate(mesh: Mesh, tree: Any) -> Any:
  """Returns `tree` with every array whole on every device."""
  return put(tree, NamedSharding(mesh, PartitionSpec()))


def shard_batch(mesh: Mesh, tree: Any, axis: int = 0) -> Any:
  """Returns `tree` with one axis of every array spread over the mesh.

  An axis that the devices do not divide is replicated: each device then does
  all of the work, with the same result.
  """

  def place(x: Any) -> jax.Array:
    divisible = x.shape[axis] % num_batch_shards(mesh) == 0
    axes = [*[None] * axis, BATCH_AXES] if divisible else []
    return put(x, NamedSharding(mesh, PartitionSpec(*axes)))

  return jax.tree.map(place, tree)


def state_shardings(mesh: Mesh, state: Any, num_leading: int = 0) -> Any:
  """Returns where `RULES` put every array of a state, or of their shapes.

  The first `num_leading` axes are not those of the rules.
  """

  def spread(path: Any, x: Any) -> NamedSharding:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    axes = next((a for end, a in RULES if re.search(f'{end}$', name)), ())
    shape = x.shape[num_leading:]
    # Adafactor's factors of a matrix have its path, and fewer axes.
    if len(axes) != len(shape):
      axes = ()
    kept = (
      axis if axis and size % mesh.shape[axis] == 0 else None
      for axis, size in zip(axes, shape[: len(axes)], strict=True)
    )
    # The count of steps is one for all, and has no axis in front.
    leading = [None] * min(num_leading, x.ndim)
    return NamedSharding(mesh, PartitionSpec(*leading, *kept))

  return jax.tree.map_with_path(spread, state)
