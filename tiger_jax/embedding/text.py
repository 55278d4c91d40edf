"""Writes the text of an item as one sentence, the input of an encoder."""

from collections.abc import Sequence

from tiger_jax.config import template as templates
from tiger_jax.data import item_text
from tiger_jax.data.dataset import FIELDS, Items
from tiger_jax.data.files import column_names
from tiger_jax.errors import UsageError

# The marks that separate texts. They are removed where a text is missing.
_SEPARATORS = ' .,;:|/-\u2013\u2014\u00b7'
_BRACKETS = {'(': ')', '[': ']', '{': '}', '<': '>', '"': '"', "'": "'"}


def columns(template: str) -> tuple[str, ...]:
  """Returns the text columns that `config.embedding.template` names.

  Another name of a field, such as `category`, is replaced by that in `FIELDS`.
  Without a template, the only column that items must have is the title.
  """
  if not template:
    return ('title',)
  names = [_field(x.column) for x in templates.parse(template) if x.column]
  return tuple(dict.fromkeys(names))


def check(items: Items, template: str) -> None:
  """Raises UsageError if a column of a template is empty for all items."""
  if not template:
    return
  used = [name for name, texts in items.fields.items() if any(texts)]
  for name in columns(template):
    if name not in used:
      raise UsageError(
        f'config.embedding.template names {item_text.shown(name)}, but no item '
        f'has such a text: the columns with text are {", ".join(used)}'
      )


def item_sentences(items: Items, template: str = '') -> list[str]:
  """Returns the text of each item as one sentence (section 4).

  Without a template, the sentence has the name and the text of each field, in
  the paper's order. The description comes last, because an encoder truncates
  long text. Missing fields are omitted.

  With a template, a missing text is omitted together with the literal text
  before it. Separators at the beginning of the sentence are then removed. If
  an opening bracket was omitted, its closing bracket is removed too.

  An item without any text is represented by its id.
  """
  if not template:
    texts = [items.fields[name] for name in FIELDS]
    labels = [f'{name.capitalize()}: ' for name in FIELDS]
    labels = [labels[0], *(f'; {label}' for label in labels[1:])]
    last = ''
  else:
    *parts, end = templates.parse(template)
    empty = ('',) * len(items)
    texts = [items.fields.get(_field(x.column), empty) for x in parts]
    labels = [x.text for x in parts]
    last = end.text
  return [
    _sentence(values, labels, last) or item_id
    for item_id, *values in zip(items.ids, *texts, strict=True)
  ]


def _field(column: str) -> str:
  standard = column_names.column_of(column)
  return standard if standard in FIELDS else column


def _sentence(values: Sequence[str], labels: Sequence[str], last: str) -> str:
  """Returns the values that are not empty, each after its label."""
  sentence = ''
  closing = ''
  is_cut = False
  for label, value in zip(labels, values, strict=True):
    if closing and label.startswith(closing):
      label = label[1:]
    closing = ''
    text = ' '.join(value.split())
    if text:
      # If all earlier texts are missing, the label of this text may begin with
      # separators.
      sentence += (label.lstrip(_SEPARATORS) if is_cut else label) + text
      is_cut = False
    else:
      closing = _BRACKETS.get(label[-1:], '')
      is_cut = not sentence
  if not sentence:
    return ''
  if closing and last.startswith(closing):
    last = last[1:]
  return ' '.join((sentence + last).split())
