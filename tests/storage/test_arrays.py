"""Tests of single arrays on disk."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from tiger_jax.storage import arrays


@pytest.mark.parametrize(
  'array', [np.arange(6.0).reshape(2, 3), np.zeros((0, 4), np.float32)]
)
def test_reads_an_array_that_was_written(tmp_path, array):
  arrays.write_array(tmp_path / 'a.npy', array)
  mapped = arrays.mapped(tmp_path / 'a.npy')
  assert mapped.dtype == array.dtype
  np.testing.assert_array_equal(mapped, array)


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
def test_error_of_a_full_disk_has_its_errno():
  """The error that `numpy.save` raises has no errno."""
  with pytest.raises(OSError) as error:
    arrays.write_array(Path('/dev/full'), np.zeros(10**6))
  assert error.value.errno == errno.ENOSPC
  assert str(error.value).endswith("'/dev/full'")
