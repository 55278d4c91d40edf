"""Writes the text of an item as one sentence, the input of an encoder."""

from tiger_jax.data.dataset import FIELDS, Items


def item_sentences(items: Items) -> list[str]:
  """Returns the text fields of each item as one sentence (section 4).

  The sentence has the name and the text of each field, in the paper's order.
  The description comes last, because an encoder truncates long text. Missing
  fields are omitted. An item without any text is represented by its id.
  """
  columns = [items.fields[name] for name in FIELDS]
  return [
    _sentence(values) or item_id
    for item_id, *values in zip(items.ids, *columns, strict=True)
  ]


def _sentence(values: list[str]) -> str:
  texts = [' '.join(value.split()) for value in values]
  return '; '.join(
    f'{name.capitalize()}: {text}'
    for name, text in zip(FIELDS, texts, strict=True)
    if text
  )
