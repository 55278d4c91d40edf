import pytest

from tiger_jax.data.dataset import FIELDS, Items


@pytest.fixture
def make_items():
  """Returns a function that makes items; keywords map item ids to fields."""

  def make(**records: dict[str, str]) -> Items:
    return Items(
      ids=tuple(records),
      fields={
        name: tuple(record.get(name, '') for record in records.values())
        for name in FIELDS
      },
    )

  return make
