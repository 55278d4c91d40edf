"""Describes the software and hardware of a run."""

from importlib import metadata
import os
import platform
from typing import Any

import jax

import tiger_jax


def environment() -> dict[str, Any]:
  """Returns the versions and devices that results depend on."""
  return {
    'tiger_jax': tiger_jax.__version__,
    'python': platform.python_version(),
    **{name: metadata.version(name) for name in ('jax', 'flax', 'optax')},
    'devices': [device.device_kind for device in jax.devices()],
    'cpu_cores': os.cpu_count(),
    'platform': f'{platform.system()} {platform.machine()}',
  }
