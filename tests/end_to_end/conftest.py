"""Fixtures with a finished run."""

import pytest

from tests.end_to_end.program import SHOP, one_device, program
from tiger_jax.serving.recommender import Recommender


@pytest.fixture(name='one_device', scope='module')
def _one_device():
  with one_device():
    yield


@pytest.fixture(name='shop', scope='session')
def _shop(tmp_path_factory):
  """The workdir of a finished run. Tests may change only a `clone` of it."""
  workdir = tmp_path_factory.mktemp('shop') / 'run'
  with one_device():
    assert program(workdir, *SHOP) == 0
  return workdir


@pytest.fixture(name='recommender', scope='session')
def _recommender(shop):
  with one_device():
    return Recommender.from_workdir(shop)
