import pytest

from tiger_jax.data import batches


@pytest.fixture(name='on_the_host')
def _on_the_host(monkeypatch):
  """Makes the host gather all batches."""
  monkeypatch.setattr(batches, '_RESIDENT_BYTES', 0)
