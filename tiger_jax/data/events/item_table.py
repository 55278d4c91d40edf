"""Collects the texts of the items of known datasets."""

from collections.abc import Mapping, Sequence

from tiger_jax.data import item_text
from tiger_jax.data.events.log import ItemTexts
from tiger_jax.errors import DataError


class ItemTable:
  """Collects the texts of items; the last copy of an item is kept.

  Attributes:
    names: The names of the text columns.
    repeated: The number of items that replaced an earlier copy.
  """

  def __init__(self, names: Sequence[str]):
    """Starts without items; `names` are the names of the text columns."""
    self.names = tuple(names)
    self.repeated = 0
    self._positions: dict[str, int] = {}
    self._columns: dict[str, list[str]] = {name: [] for name in names}

  def add(self, item_id: str, texts: Mapping[str, str]) -> None:
    """Adds an item, or replaces its texts."""
    position = self._positions.setdefault(item_id, len(self._positions))
    is_new = position == len(next(iter(self._columns.values())))
    self.repeated += not is_new
    for name, column in self._columns.items():
      if is_new:
        column.append(texts[name])
      else:
        column[position] = texts[name]

  def texts(
    self, file: str, required: Sequence[str], names: Sequence[str]
  ) -> ItemTexts:
    """Returns the texts.

    Args:
      file: The source of the items, for messages.
      required: The columns that the item text is made from.
      names: The names of the fields in the file, for messages.

    Raises:
      DataError: A required column is empty.
    """
    for name in required:
      if not any(self._columns[name]):
        raise DataError(
          f'{file} has no {item_text.shown(name)} for any item: name other '
          'texts in config.embedding.template; the file has '
          f'{", ".join(map(item_text.shown, names))}'
        )
    return ItemTexts(tuple(self._positions), self._columns)
