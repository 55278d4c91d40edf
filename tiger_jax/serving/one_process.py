"""Prevents the use of JAX in a fork of a process that already used JAX."""

import os

from tiger_jax.errors import UsageError

# The id of the process that loaded the first model. A fork inherits this value.
_loaded_in: int | None = None


def claim() -> None:
  """Records that this process has loaded a model, see `check`."""
  global _loaded_in
  check()
  _loaded_in = os.getpid()


def check() -> None:
  """Raises an error in a fork of a process that has loaded a model.

  JAX's threads do not exist in a fork, so a search in the fork would hang.

  Raises:
    UsageError: The current process is such a fork.
  """
  if _loaded_in not in (None, os.getpid()):
    raise UsageError(
      f'process {os.getpid()} was forked from process {_loaded_in}, which had '
      'loaded a Recommender, and JAX does not work in both: load the '
      "Recommender only after the fork, or start processes with 'spawn'"
    )
