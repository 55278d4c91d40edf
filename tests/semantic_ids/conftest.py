"""Fixtures for the tests of the quantizers."""

import jax
import pytest

from tests.semantic_ids.autoencoders import make_task


@pytest.fixture(name='task', scope='module')
def _task():
  """The training task of a small RQ-VAE."""
  return make_task()


@pytest.fixture(name='params', scope='module')
def _params(task):
  """The initial parameters of `task`."""
  return task.init(jax.random.key(0))
