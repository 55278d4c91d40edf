"""What every test runs under."""

import os
import pathlib

from absl import flags
import jax
import pytest

# Only the first use of a device starts the backend, so this is early enough.
# tiger_jax itself must not be imported here: the hook that checks its shapes
# has to be in place first.
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')

# Grain and TFDS read absl flags, which only `app.run` would have parsed.
flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope='session')
def data_root() -> pathlib.Path:
  """The folder of real data sets that TIGER_JAX_TEST_DATA names."""
  value = os.environ.get('TIGER_JAX_TEST_DATA', '')
  if not value:
    pytest.skip('needs real data: set TIGER_JAX_TEST_DATA to its folder')
  root = pathlib.Path(value)
  if not root.is_dir():
    pytest.fail(f'TIGER_JAX_TEST_DATA is {value}, which is not a folder')
  return root
