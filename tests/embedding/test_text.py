from tiger_jax.embedding.text import item_sentences


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
