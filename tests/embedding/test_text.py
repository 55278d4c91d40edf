import pytest

from tiger_jax.config import Config, EmbeddingConfig
from tiger_jax.config.config_dict import from_json
from tiger_jax.data.dataset import FIELDS, Items
from tiger_jax.embedding import encoders, text
from tiger_jax.embedding.text import item_sentences
from tiger_jax.errors import UsageError
from tiger_jax.stages import data, embedding


def test_fields_are_labeled_and_in_the_order_of_the_paper(make_items):
  items = make_items(
    B01={
      'description': 'Smells of roses.',
      'categories': 'Beauty > Hair; Beauty > Gifts',
      'brand': 'Acme',
      'price': '9.99',
      'title': 'Rose Shampoo',
    }
  )

  assert item_sentences(items) == [
    'Title: Rose Shampoo; Price: 9.99; Brand: Acme; '
    'Categories: Beauty > Hair; Beauty > Gifts; Description: Smells of roses.'
  ]


def test_missing_fields_are_omitted(make_items):
  items = make_items(
    B01={'title': 'Rose Shampoo', 'categories': 'Beauty'},
    B02={'price': '1.00', 'brand': 'Acme'},
    B03={'brand': ' \n'},
  )

  assert item_sentences(items) == [
    'Title: Rose Shampoo; Categories: Beauty',
    'Price: 1.00; Brand: Acme',
    'B03',
  ]


def test_a_sentence_is_one_line(make_items):
  items = make_items(B01={'title': ' Rose\r\n\tShampoo ', 'brand': 'A  B'})

  assert item_sentences(items) == ['Title: Rose Shampoo; Brand: A B']


def test_characters_that_are_not_ascii_are_kept(make_items):
  items = make_items(B01={'title': 'シャンプー & Crème'})

  assert item_sentences(items) == ['Title: シャンプー & Crème']


def _item(**texts):
  """Returns one item with the id `i7`, and texts of any name."""
  names = dict.fromkeys([*FIELDS, *texts])
  return Items(('i7',), {name: (texts.get(name, ''),) for name in names})


@pytest.mark.parametrize(
  ('template', 'texts', 'expected'),
  [
    ('{title}. {brand}. {category}', 'tbc', 'T 1. B. C > D'),
    ('{title}. {brand}. {category}', 'tc', 'T 1. C > D'),
    ('{title}. {brand}. {category}', 'tb', 'T 1. B'),
    ('{title}. {brand}. {category}', 'bc', 'B. C > D'),
    ('{title}. {brand}. {category}', 'c', 'C > D'),
    ('{title}. {brand}. {category}', '', 'i7'),
    ('Title: {title}; Brand: {brand}', 'tb', 'Title: T 1; Brand: B'),
    ('Title: {title}; Brand: {brand}', 't', 'Title: T 1'),
    ('Title: {title}; Brand: {brand}', 'b', 'Brand: B'),
    ('{title} ({brand}), {category}!', 'tbc', 'T 1 (B), C > D!'),
    ('{title} ({brand}), {category}!', 'tc', 'T 1, C > D!'),
    ('{title} ({brand})', 't', 'T 1'),
    ('{title} ({brand})', 'b', '(B)'),
    ('[{brand}] {title}', 't', 'T 1'),
    ('{title} by {brand}.', 't', 'T 1.'),
    ('A {{{title}}} set', 't', 'A {T 1} set'),
    ('{{x}} {brand}', '', 'i7'),
    ('{title}{title}', 't', 'T 1T 1'),
    ('{color}, {color}: {NAME}', 'tx', 'red, red: T 1'),
    ('{weight in kg}, {title}', 'tw', '1 2, T 1'),
    ('{title}\n{color}', 'tx', 'T 1 red'),
  ],
)
def test_a_template_gives_the_text(template, texts, expected):
  values = {
    't': {'title': ' T\n1 '}, 'b': {'brand': 'B'}, 'x': {'color': 'red'},
    'c': {'categories': 'C > D'}, 'w': {'weight in kg': '1 2'},
  }  # fmt: skip
  item = _item(**{k: v for x in texts for k, v in values[x].items()})
  assert item_sentences(item, template) == [expected]


@pytest.mark.parametrize(
  ('template', 'words'),
  [
    ('{title', "'{title'"),
    ('title}', "Single '}'"),
    ('{}', 'only the name of a column'),
    ('{ }', 'only the name of a column'),
    ('{title!r}', 'only the name of a column'),
    ('{title:>9}', 'only the name of a column'),
    ('no column', 'name at least one column'),
    ('{{title}}', 'name at least one column'),
    (' ', 'name at least one column'),
  ],
)
def test_a_template_of_another_form_is_refused(template, words):
  with pytest.raises(UsageError) as caught:
    from_json({'embedding': {'template': template}})
  assert str(caught.value).startswith(
    f'config.embedding.template is {template!r}'
  )
  assert words in str(caught.value) and '\n' not in str(caught.value)


def test_a_name_is_never_evaluated():
  item = _item(title='x', **{'title.__class__': 'plain', 'title[0]': 'text'})
  assert item_sentences(item, '{title.__class__} {title[0]}') == ['plain text']


def test_a_column_without_text_is_refused():
  config = EmbeddingConfig(encoder='tfidf-svd', template='{title} {colour}')
  with pytest.raises(UsageError) as caught:
    encoders.embed_items(config, _item(title='x', color='red'))
  assert str(caught.value) == (
    "config.embedding.template names 'colour', but no item has such a text: "
    'the columns with text are title, color'
  )


def _made_from(template, **changes):
  values = {'embedding': {'template': template, **changes}}
  config: Config = from_json(values)
  return data.items_made_from(config), embedding.made_from(config, 'items')


def test_only_a_further_column_makes_the_data_again():
  none, fields = _made_from(''), _made_from('{title} {category}')
  assert fields[0] == none[0]
  assert fields[1] != none[1] != _made_from('{brand}')[1] != fields[1]
  further = _made_from('{title} {color}')
  assert further[0] != none[0]
  assert further[0] == _made_from('{color}. {brand}')[0]
  # The vectors of a file do not depend on the text.
  own = [_made_from(x, encoder='precomputed')[1] for x in ('', '{title}')]
  assert own[0] == own[1]


def test_the_columns_of_a_template_are_named_once():
  assert text.columns('') == ('title',)
  assert text.columns('{Category} {genres}: {Color} {Color}') == (
    'categories', 'Color'
  )  # fmt: skip
