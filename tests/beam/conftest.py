"""Runs the commands as a user types them."""

import pytest

from tests import typed
from tests.beam import shops


@pytest.fixture
def beam(tmp_path):
  """Runs `python -m tiger_jax.beam` with two worker processes."""

  def run(*arguments, flags=shops.TWO, env=None):
    command = ('-m', 'tiger_jax.beam', *arguments, *flags)
    return typed.python(*command, cwd=tmp_path, env=env, timeout=120)

  return run
