"""The sentence that stands for an item."""

from tiger_jax.data.dataset import FIELDS, Items


def item_sentences(items: Items) -> list[str]:
  """Writes each item's text fields as one sentence (the paper, section 4).

  The fields are labeled, and come in the paper's order with the description
  last, so that an encoder that cuts long text loses the least telling part.
  Missing fields are omitted. An item without any field is its id.
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
