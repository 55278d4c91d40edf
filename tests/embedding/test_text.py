from tiger_jax.embedding.text import item_sentences


def test_labels_every_field_in_the_order_of_the_paper(make_items):
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


def test_leaves_out_what_is_absent_item_by_item(make_items):
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


def test_keeps_other_scripts(make_items):
  items = make_items(B01={'title': 'シャンプー & Crème'})

  assert item_sentences(items) == ['Title: シャンプー & Crème']
