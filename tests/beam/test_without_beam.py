"""Tests the commands without Apache Beam."""

from importlib import util

import pytest

from tests import typed


@pytest.mark.skipif(
  bool(util.find_spec('apache_beam')), reason='Apache Beam is installed'
)
def test_the_missing_extra_is_named(tmp_path):
  done = typed.python('-m', 'tiger_jax.beam', 'prepare', cwd=tmp_path)
  assert done.code == 2
  assert 'install the extra beam' in done.refusal
