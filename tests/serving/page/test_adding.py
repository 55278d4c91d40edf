"""Tests the form that adds an item to the catalog."""

TITLE = 'Harbour Roast Gooseneck Kettle, Copper'


def add(page, item_id, **fields):
  if not page.is_visible('#add-form'):
    page.click('#add summary')
  page.fill('#add-id', item_id)
  for name, value in {'title': TITLE, **fields}.items():
    page.fill(f'#add-{name}', value)
  page.click('#add-form button')


def test_a_new_item_gets_a_semantic_id_and_appears(open_page, shop):
  page = open_page('#item=P0000')
  add(page, 'N/1?', brand='Harbour Roast')
  page.locator('#added .path').first.wait_for()
  assert shop.items['N/1?'] == (TITLE, (3, 1, 0, 1))
  added = page.locator('#added')
  assert page.inner_text('#added-status') == f'Added \u2068{TITLE}\u2069.'
  path = added.locator('.path').first
  assert path.locator('.code').all_inner_texts() == ['3', '1', '0', '1']
  assert 'its probability is 2' in added.locator('.chance').inner_text()
  near = added.locator('li .title').all_inner_texts()
  assert near[0] == 'Kettleby Gooseneck Kettle, Sea Glass'

  card = page.locator('.card.new')
  card.wait_for()
  assert card.get_attribute('data-item') == 'N/1?'
  leaf = page.locator('#tree .leaf', has_text='new')
  assert leaf.inner_text() == f'#2 new {TITLE}'
  assert page.inner_text('#model').startswith('tiger on synthetic: 14 items')

  page.click('#added button >> nth=0')
  assert page.locator('#history .title').all_inner_texts()[-1] == TITLE


def test_the_text_of_a_new_item_has_the_filled_columns(page, shop):
  add(page, ' N1 ', categories='Coffee > Kettles', description='  ')
  page.locator('#added .path').first.wait_for()
  add(page, 'N2')
  page.locator('#added-status', has_text='Added').wait_for()
  assert shop.additions[0] == {
    'id': 'N1',
    'title': TITLE,
    'text': {'categories': 'Coffee > Kettles'},
  }
  assert shop.additions[1]['text'] is None


def test_a_refused_item_shows_the_message_and_keeps_the_text(page, shop):
  add(page, 'P0000')
  page.locator('#added-status', has_text='P0000 exists already').wait_for()
  assert page.input_value('#add-title') == TITLE
  page.fill('#add-id', 'N2')
  page.click('#add-form button')
  page.locator('#added .path').first.wait_for()
  assert 'N2' in shop.items


def test_the_form_is_hidden_if_the_server_does_not_allow_it(open_page, shop):
  shop.demo = False
  page = open_page()
  assert not page.is_visible('#add')
