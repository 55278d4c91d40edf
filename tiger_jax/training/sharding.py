"""The device mesh, and where arrays lie on it."""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
  """Returns a mesh of one axis, `data`, over the devices.

  Args:
    devices: Which devices; all of them where None.
  """
  devices = jax.devices() if devices is None else devices
  # Under explicit axes, which are the default, embedding look-ups fail.
  return jax.make_mesh(
    (len(devices),), ('data',), axis_types=(AxisType.Auto,), devices=devices
  )


def replicate(mesh: Mesh, tree: Any) -> Any:
  """Returns `tree` with every array whole on every device."""
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard_batch(mesh: Mesh, tree: Any, axis: int = 0) -> Any:
  """Returns `tree` with an axis of every array spread over the mesh.

  An axis that the devices do not divide is replicated: each device then does
  all of the work, with the same result.

  Args:
    mesh: The devices.
    tree: Arrays.
    axis: Which one counts the examples.
  """

  def place(x: Any) -> jax.Array:
    divisible = x.shape[axis] % mesh.size == 0
    spec = (
      PartitionSpec(*[None] * axis, 'data') if divisible else PartitionSpec()
    )
    return jax.device_put(x, NamedSharding(mesh, spec))

  return jax.tree.map(place, tree)
