"""Describes a dataset by ids, so that tests can state it in a few lines."""

from tiger_jax.data.dataset import Dataset


def histories(dataset: Dataset) -> dict[str, list[str]]:
  """Returns the item ids in the history of each user."""
  return {
    user_id: [dataset.items.ids[row] for row in dataset.history_of(user)]
    for user, user_id in enumerate(dataset.user_ids)
  }


def texts(dataset: Dataset) -> dict[str, dict[str, str]]:
  """Returns the fields of each item that are not empty."""
  return {
    item_id: {
      name: column[row]
      for name, column in dataset.items.fields.items()
      if column[row]
    }
    for row, item_id in enumerate(dataset.items.ids)
  }
