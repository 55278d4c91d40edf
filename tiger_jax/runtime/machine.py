"""Checks the installation and the machine, and changes nothing."""

from collections.abc import Iterator
from importlib import metadata
import os
from pathlib import Path
import platform
import shutil

import jax
import jax.numpy as jnp
import numpy as np
from packaging.requirements import Requirement

import tiger_jax
from tiger_jax.errors import UsageError
from tiger_jax.runtime import compile_cache
from tiger_jax.runtime.findings import Finding, note, ok, problem

# The extras that add features. The device check covers the extras cuda and tpu.
_EXTRAS = {
  'text': 'text encoders',
  'serve': '--mode=serve',
  'tensorboard': 'TensorBoard logs',
}
# Less free disk space than this gives a note. A run of Beauty takes 0.2 GiB.
_LITTLE_SPACE = 2**30
# This file exists if the driver of an NVIDIA GPU is loaded.
_NVIDIA = Path('/dev/nvidiactl')


def check(folder: Path) -> Iterator[Finding]:
  """Yields the findings about Python, packages, devices and the disk.

  Args:
    folder: The folder, existing or not, whose disk is checked.
  """
  yield ok(
    'python',
    f'{platform.python_version()} on {platform.system()} {platform.machine()}',
  )
  pages = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  yield ok('machine', f'{os.cpu_count()} CPU cores, {_gib(pages)} of memory')
  yield from _packages()
  yield from _devices()
  yield from _disk(folder)
  yield _cache()


def _packages() -> Iterator[Finding]:
  """Compares the installed packages with the requirements of tiger_jax."""
  try:
    lines = metadata.requires('tiger_jax') or []
  except metadata.PackageNotFoundError:
    yield note(
      'packages',
      f'tiger_jax {tiger_jax.__version__} is not installed, so its '
      "requirements are unknown: pip install -e '.'",
    )
    return
  requirements = [Requirement(line) for line in lines]
  core = [x for x in requirements if not x.marker or x.marker.evaluate()]
  wrong = [text for x in core if (text := _mismatch(x))]
  versions = ', '.join(
    f'{name} {_version(name)}'
    for name in ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  )
  text = f'tiger_jax {tiger_jax.__version__}, {versions}'
  if wrong:
    yield problem(
      'packages', f'{"; ".join(wrong)}: pip install -U tiger_jax', UsageError
    )
  else:
    yield ok('packages', f'{text}; all {len(core)} requirements are met')
  for extra, purpose in _EXTRAS.items():
    added = [
      x
      for x in requirements
      if x not in core and x.marker and x.marker.evaluate({'extra': extra})
    ]
    wrong = [text for x in added if (text := _mismatch(x))]
    if not wrong:
      yield ok(f'extra {extra}', f'installed, for {purpose}')
    else:
      yield note(
        f'extra {extra}',
        f"{'; '.join(wrong)}: for {purpose}, pip install 'tiger_jax[{extra}]'",
      )


def _mismatch(requirement: Requirement) -> str:
  """Returns how the installed package differs from a requirement, or ''."""
  version = _version(requirement.name)
  if not version:
    return f'{requirement.name} is not installed'
  if requirement.specifier.contains(version, prereleases=True):
    return ''
  return (
    f'{requirement.name} is {version}, but {requirement.specifier} is required'
  )


def _version(name: str) -> str:
  try:
    return metadata.version(name)
  except metadata.PackageNotFoundError:
    return ''


def _devices() -> Iterator[Finding]:
  """Runs a small program on each device of this process."""
  # With the cache, JAX might write the compiled program to it.
  jax.config.update('jax_enable_compilation_cache', False)
  try:
    devices = jax.local_devices()
    kinds = ', '.join(sorted({x.device_kind for x in devices}))
    failed = [x for x in devices if not _computes(x)]
  # A JAX backend may raise any error at its start or in a program.
  except Exception as error:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    yield problem(
      'devices',
      f'JAX cannot use its devices ({reason}): unset JAX_PLATFORMS, or '
      'correct the installation of JAX',
      UsageError,
    )
    return
  finally:
    jax.config.update('jax_enable_compilation_cache', True)
  if failed:
    yield problem(
      'devices',
      f'{failed[0]} computes a wrong product: do not train on it',
      UsageError,
    )
    return
  text = f'{len(devices)} x {kinds}; a small program has the right result'
  yield ok('devices', text)
  if _NVIDIA.exists() and devices[0].platform == 'cpu':
    yield note(
      'devices',
      'the machine has an NVIDIA GPU, but JAX does not use it: pip install '
      "'tiger_jax[cuda]'",
    )


def _computes(device: jax.Device) -> bool:
  """Returns whether a device multiplies two matrices correctly."""
  # Small integers, which are exact in bfloat16 too.
  values = np.arange(16 * 16, dtype=np.float32).reshape(16, 16) % 7
  product = jax.jit(jnp.matmul)(
    jax.device_put(values, device), jax.device_put(values.T, device)
  )
  return np.array_equal(product, values @ values.T)


def _disk(folder: Path) -> Iterator[Finding]:
  existing = next(x for x in (folder, *folder.parents) if os.path.exists(x))
  free = shutil.disk_usage(existing).free
  text = f'{_gib(free)} free in {existing}'
  if free < _LITTLE_SPACE:
    yield note('disk', f'{text}: free some space before a run')
  else:
    yield ok('disk', text)
  if not os.access(existing, os.W_OK):
    yield note('disk', f'{existing} is not writable: choose another --workdir')


def _cache() -> Finding:
  folder, reason = compile_cache.inspect()
  subject = 'compile cache'
  if folder is None or reason:
    where = f'{folder} {reason}' if folder else 'there is no home folder'
    return note(subject, f'{where}: each run compiles its programs again')
  if not folder.exists():
    return ok(subject, f'{folder} will be created by the first run')
  sizes = [x.stat().st_size for x in folder.glob('*-cache')]
  return ok(subject, f'{len(sizes):,} programs, {_gib(sum(sizes))} in {folder}')


def _gib(num_bytes: int) -> str:
  return f'{num_bytes / 2**30:.1f} GiB'
