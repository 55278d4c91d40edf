"""The device mesh, and the shardings of arrays on it."""

import re
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool
import numpy as np

# Batches are sharded over both axes. Parameters are also sharded over `fsdp`.
BATCH_AXES = ('data', 'fsdp')

# Each rule has a pattern, and a mesh axis for each axis of a parameter. The
# first rule whose pattern matches the end of an array's path applies. The rules
# also apply to the optimizer state. An array without a rule is replicated. An
# axis is also replicated if its size is not a multiple of the mesh axis's size.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
  (r'(code|user|prefix)_embedding/embedding', ('tensor', 'fsdp')),
  (r'(query|key|value)/kernel', ('fsdp', 'tensor', None)),
  (r'out/kernel', ('tensor', None, 'fsdp')),
  (r'up/kernel', ('fsdp', 'tensor')),
  (r'down/kernel', ('tensor', 'fsdp')),
  (r'heads_\d+/kernel', ('fsdp', 'tensor')),
)


def make_mesh(
  devices: list[jax.Device] | None = None, fsdp: int = 1, tensor: int = 1
) -> Mesh:
  """Returns a mesh with the axes `data`, `fsdp` and `tensor`.

  Args:
    devices: The devices; by default all devices of all processes.
    fsdp: The number of devices that each hold a part of the parameters and
      process different examples.
    tensor: The number of devices that each hold a part of the parameters and
      split the work on the same examples.

  Raises:
    ValueError: The number of devices is not a multiple of `fsdp * tensor`.
  """
  devices = jax.devices() if devices is None else devices
  if len(devices) % (fsdp * tensor):
    raise ValueError(
      f'{len(devices)} devices cannot be divided by fsdp {fsdp} x tensor '
      f'{tensor}'
    )
  # Embedding look-ups fail with explicit axes, which are the default.
  return jax.make_mesh(
    (len(devices) // (fsdp * tensor), fsdp, tensor),
    (*BATCH_AXES, 'tensor'),
    axis_types=(AxisType.Auto,) * 3,
    devices=devices,
  )


def local_devices() -> list[jax.Device]:
  """Returns the devices of this process."""
  own = jax.process_index()
  return [device for device in jax.devices() if device.process_index == own]


def num_batch_shards(mesh: Mesh) -> int:
  """Returns the number of shards of a batch."""
  return mesh.size // mesh.shape['tensor']


def put(tree: Any, shardings: Any) -> Any:
  """Puts host arrays on devices.

  With several processes, every process must have the whole arrays. Each process
  copies only the shards of its own devices.

  Args:
    tree: A pytree of arrays.
    shardings: A pytree of shardings, or one sharding for all arrays.
  """

  def place(x: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(x, jax.Array) and x.committed and x.sharding == sharding:
      return x
    if sharding.is_fully_addressable:
      return jax.device_put(x, sharding)
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])

  if isinstance(shardings, NamedSharding):
    return jax.tree.map(lambda x: place(x, shardings), tree)
  return jax.tree.map(place, tree, shardings)


def fetch(tree: Any) -> Any:
  """Copies whole arrays to every host; all processes must call this function.

  The copies stay valid when the device arrays are donated.
  """

  def get(x: Any) -> np.ndarray:
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
      assert isinstance(x.sharding, NamedSharding)
      replicated = NamedSharding(x.sharding.mesh, PartitionSpec())
      x = jax.jit(_same, out_shardings=replicated)(x).addressable_data(0)
    return np.array(x)

  return jax.tree.map(get, tree)


def _same(x: jax.Array) -> jax.Array:
  """Returns its argument. JAX compiles a new `lambda` at every call."""
  return x


def replicate(mesh: Mesh, tree: Any) -> Any:
  """Returns `tree` with every array replicated on every device."""
  return put(tree, NamedSharding(mesh, PartitionSpec()))


def shard_batch(mesh: Mesh, tree: Any, axis: int = 0) -> Any:
  """Returns `tree` with one axis of every array sharded over the mesh.

  If the size of the axis is not a multiple of the number of shards, the array
  is replicated. Each device then does all of the work, with the same result.
  """

  def place(x: Any) -> jax.Array:
    divisible = x.shape[axis] % num_batch_shards(mesh) == 0
    axes = [*[None] * axis, BATCH_AXES] if divisible else []
    return put(x, NamedSharding(mesh, PartitionSpec(*axes)))

  return jax.tree.map(place, tree)


def own_rows(
  mesh: Mesh, batch_size: int, devices: list[jax.Device]
) -> Bool[np.ndarray, ' b']:
  """Returns a mask of the rows of a batch that the given devices hold."""
  divisible = batch_size % num_batch_shards(mesh) == 0
  spec = PartitionSpec(BATCH_AXES) if divisible else PartitionSpec()
  indices = NamedSharding(mesh, spec).devices_indices_map((batch_size,))
  own = np.zeros(batch_size, bool)
  for device in devices:
    own[indices[device]] = True
  return own


def state_shardings(mesh: Mesh, state: Any, num_leading: int = 0) -> Any:
  """Returns the sharding of every array of a state by `RULES`.

  Args:
    mesh: The devices.
    state: A pytree of arrays, or of their shapes.
    num_leading: The number of leading axes that the rules do not include, for
      example the axis of the replicas.
  """

  def sharding(path: Any, x: Any) -> NamedSharding:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    axes = next((a for end, a in RULES if re.search(f'{end}$', name)), ())
    shape = x.shape[num_leading:]
    # The factors of Adafactor have the path of a matrix but fewer axes.
    if len(axes) != len(shape):
      axes = ()
    divisible = (
      axis if axis and size % mesh.shape[axis] == 0 else None
      for axis, size in zip(axes, shape[: len(axes)], strict=True)
    )
    # All replicas share the step count, which has no leading axis.
    leading = [None] * min(num_leading, x.ndim)
    return NamedSharding(mesh, PartitionSpec(*leading, *divisible))

  return jax.tree.map_with_path(sharding, state)
