"""Tests what a user does on the page."""

import math
import threading

from tests.serving.page.shop import shared

# Three items of the history; the second and third share no code with the first.
HISTORY = '#item=P0000&item=P0004&item=P0009'


def titles(page, where='#recommendations'):
  return page.locator(f'{where} .title').all_inner_texts()


def wait_for(page, text):
  page.locator('#status', has_text=text).wait_for()


def wait_for_answer(page):
  """Waits until the answer to the last change is shown."""
  page.locator('#recommendations:not([aria-busy])').wait_for()


def focused(page):
  """Returns the accessible name of the element with the focus."""
  return page.evaluate(
    "document.activeElement.getAttribute('aria-label')"
    ' ?? document.activeElement.innerText'
  )


def filled(path):
  """Returns the codes of a path that are marked as shared."""
  return path.locator('.code.shared').all_inner_texts()


def test_an_empty_history_shows_popular_items_and_says_so(page, shop):
  assert 'these are the most popular items' in page.inner_text('#status')
  assert len(titles(page)) == 10
  assert page.locator('.probability').all_inner_texts() == [''] * 10
  assert page.inner_text('#model') == (
    'tiger on synthetic: 13 items, codes 32 × 32 × 32 × 3, model 3f9ac1d2, '
    'catalog 1'
  )
  assert [x['history'] for x in shop.requests] == [[]]


def test_items_found_by_a_search_are_added_to_the_history(page, shop):
  page.fill('#search', 'GRINDER')
  page.click('#matches button >> nth=1')
  wait_for(page, 'The 10 items most likely to be next.')
  assert titles(page, '#history') == ['Kettleby Burr Grinder, Plum']
  assert page.inner_text('#search-status') == '2 items found.'
  assert shop.requests[-1]['history'] == ['P0003']
  answer = shop.recommend(shop.requests[-1])['items']
  assert titles(page) == [x['title'] for x in answer]
  expected = [f'{100 * math.exp(x["score"]):.2g}%' for x in answer[:4]]
  assert page.locator('.probability').all_inner_texts()[:4] == expected

  page.fill('#search', 'zebra')
  page.locator('#search-status', has_text='No item matches.').wait_for()
  assert titles(page, '#matches') == []


def test_a_search_is_possible_with_the_keyboard(page):
  page.focus('#search')
  page.keyboard.type('p000')
  page.locator('#matches li').nth(9).wait_for()
  for key in ('ArrowDown', 'ArrowDown', 'ArrowDown', 'ArrowUp', 'Enter'):
    page.keyboard.press(key)
  wait_for_answer(page)
  assert titles(page, '#history') == ['Ninth Cup Kettle, Plum']
  page.keyboard.press('Escape')
  assert page.evaluate('document.activeElement.id') == 'search'


def test_the_codes_that_an_item_shares_with_the_history_are_filled(
  open_page, shop
):
  page = open_page(HISTORY)
  past = [shop.items[x][1] for x in ('P0000', 'P0004', 'P0009')]
  counts = set()
  for card in page.locator('.card').all():
    codes = shop.items[card.get_attribute('data-item')][1]
    count = max(shared(codes, x) for x in past)
    shown = card.locator('.path').first
    assert shown.locator('.code').all_inner_texts() == list(map(str, codes))
    assert filled(shown) == [str(x) for x in codes[:count]]
    counts.add(count)
  assert counts == {1, 2, 4}
  reasons = page.locator('.why').all_inner_texts()
  assert reasons[0] == 'This item is in the history.'
  plain = reasons[3].replace('\u2068', '').replace('\u2069', '')
  assert plain == (
    'Same first 2 codes as Kettleby Gooseneck Kettle, Sea Glass in the history.'
  )
  label = page.locator('.card .path').nth(3).get_attribute('aria-label')
  assert label == 'Semantic ID 3, 1, 5, 0, first 2 codes shared'


# Returns the codes and marks on the path of each leaf, and its text.
PATHS = """list => [...list.querySelectorAll('.leaf')].map((leaf) => {
  const path = [];
  let node = leaf;
  while ((node = node.parentElement) !== list) {
    const chip = node.querySelector(':scope > .code');
    if (chip) path.unshift([chip.textContent, chip.matches('.shared')]);
  }
  return [path, leaf.innerText];
})"""


def test_the_tree_has_the_path_of_each_item(open_page, shop):
  page = open_page(HISTORY + '&k=5')
  past = [shop.items[x][1] for x in ('P0000', 'P0004', 'P0009')]
  ranked = shop.recommend(shop.requests[-1])['items']
  expected = {}
  for place, item in enumerate(ranked):
    codes = tuple(item['semantic_id'])
    mark = ' history' if codes in past else ''
    expected[codes] = f'#{place + 1}{mark} {item["title"]}'
  found = page.locator('#tree').evaluate(PATHS)
  shown = {tuple(int(x) for x, _ in path): text for path, text in found}
  assert shown == expected
  assert list(shown) == sorted(shown)
  for path, _ in found:
    codes = tuple(int(x) for x, _ in path)
    count = max(shared(codes, x) for x in past)
    assert [is_filled for _, is_filled in path] == [
      depth < count for depth in range(4)
    ]


def test_the_path_of_an_item_in_use_is_marked(open_page, shop):
  page = open_page(HISTORY)
  card = page.locator('.card').nth(5)
  codes = shop.items[card.get_attribute('data-item')][1]
  card.locator('.pick').focus()
  marked = '#tree .on > .code'
  assert page.locator(marked).all_inner_texts() == list(map(str, codes))
  page.locator('.card').nth(3).hover()
  assert page.locator(marked).all_inner_texts() == ['3', '1', '5', '0']
  page.hover('h1')
  assert page.locator(marked).count() == 0


def test_the_history_is_changed_with_the_keyboard(open_page, shop):
  page = open_page(HISTORY)
  knife, helmet = "Maison Vell Chef's Knife 20 cm, Sand", 'Switchback Road'
  page.get_by_label(f'Move up: {knife}').press('Enter')
  assert focused(page) == f'Move down: {knife}'  # It is the first one now.
  page.keyboard.press('Enter')
  page.keyboard.press('Enter')
  assert focused(page) == f'Move up: {knife}'
  wait_for_answer(page)
  assert shop.requests[-1]['history'] == ['P0000', 'P0009', 'P0004']
  page.get_by_label(f'Remove: {helmet}').press('Enter')
  assert focused(page) == f'Remove: {knife}'
  page.keyboard.press('Enter')
  assert focused(page).startswith('Remove: Kettleby')
  page.keyboard.press('Enter')
  assert focused(page) == 'History'
  wait_for(page, 'most popular items')
  assert shop.requests[-1]['history'] == []


def test_the_history_can_be_cleared(open_page, shop):
  page = open_page(HISTORY)
  page.click('#clear')
  wait_for(page, 'most popular items')
  assert shop.requests[-1]['history'] == []
  assert not page.is_visible('#clear')
  assert focused(page) == 'History'


def test_a_recommended_item_is_added_and_the_focus_stays_in_the_list(page):
  page.locator('.card .line .pick').nth(2).press('Enter')
  wait_for(page, 'most likely')
  assert titles(page, '#history') == ['Ninth Cup Burr Grinder, Slate Blue']
  assert focused(page) == 'Recommendations'


def test_a_reload_keeps_the_history_and_the_options(open_page, shop):
  page = open_page()
  page.click('.card .pick >> nth=4')
  page.check('[name=exclude_seen]')
  page.check('[name=draw]')
  page.fill('[name=temperature]', '0.7')
  page.click('[name=again]')
  page.select_option('[name=k]', '5')
  wait_for(page, '5 items drawn at random')
  before = shop.requests[-1]
  assert before['options'] == {
    'exclude_seen': True, 'temperature': 0.7, 'seed': 1,
  }  # fmt: skip
  page.reload()
  wait_for(page, '5 items drawn at random')
  assert shop.requests[-1] == before
  assert titles(page, '#history') == ["Maison Vell Chef's Knife 20 cm, Sand"]
  assert page.inner_text('[name=shown]') == '0.7'


def test_the_history_stays_out_of_the_addresses_that_servers_log(open_page):
  page = open_page('#item=P0000')
  page.click('.card .pick >> nth=4')
  assert '?' not in page.url
  assert page.url.endswith('#item=P0000&item=P0004')


def test_each_new_draw_has_a_new_seed(open_page, shop):
  page = open_page('#item=P0000&temperature=2')
  first = titles(page)
  page.click('[name=again]')
  wait_for_answer(page)
  assert titles(page) != first
  assert [x['options']['seed'] for x in shop.requests] == [0, 1]


def test_exact_search_says_what_is_proven(open_page, shop):
  page = open_page(HISTORY)
  assert page.locator('.proven:visible').count() == 3
  page.check('[name=exact]')
  wait_for(page, 'All are proven.')
  assert shop.requests[-1]['options'] == {'exact': True}
  assert page.locator('.proven:visible').count() == 10


def test_several_quick_changes_make_one_request(page, shop):
  page.evaluate(
    "for (const x of document.querySelectorAll('.card .line .pick')) x.click()"
  )
  wait_for(page, 'most likely')
  assert len(shop.requests) == 2
  assert len(shop.requests[-1]['history']) == 10
  assert 'reads the latest 4 items' in page.inner_text('#history-note')


def test_a_late_answer_to_an_old_history_is_discarded(open_page, shop):
  page = open_page()
  slow = shop.gates['P0000',] = threading.Event()
  page.click('.card .pick >> nth=0')
  while len(shop.requests) < 2:
    page.wait_for_timeout(10)
  page.click('.card .pick >> nth=4')
  wait_for(page, 'most likely')
  newest = titles(page)
  assert newest == [
    x['title'] for x in shop.recommend(shop.requests[-1])['items']
  ]
  slow.set()
  page.wait_for_timeout(200)
  assert titles(page) == newest
  assert shop.requests[-1]['history'] == ['P0000', 'P0004']


def test_removed_items_stay_in_the_history(open_page, shop):
  shop.removed['P0004'] = shop.items.pop('P0004')
  page = open_page('#item=P0000&item=P0004&item=none')
  wait_for(page, '1 unknown id ignored.')
  marks = [
    page.locator(f'#history .{kind}').nth(place).is_visible()
    for kind in ('removed', 'unknown')
    for place in range(3)
  ]
  assert marks == [False, True, False, False, False, True]
  assert page.locator('#history .removed').nth(1).inner_text() == (
    'removed from the catalog'
  )
  assert page.locator('#tree .leaf', has_text='P0004').count() == 0


def test_unknown_items_are_named_and_ignored(open_page, shop):
  page = open_page('#item=gone&item=P0000')
  assert 'most likely to be next. 1 unknown id ignored.' in page.inner_text(
    '#status'
  )
  marks = page.locator('#history .unknown')
  assert [x.is_visible() for x in marks.all()] == [True, False]
  paths = page.locator('#history .path')
  assert [x.is_visible() for x in paths.all()] == [False, True]
  assert page.locator('#tree .leaf', has_text='gone').count() == 0


def test_lists_longer_than_the_server_allows_cannot_be_chosen(page):
  options = page.locator('[name=k] option').all()
  assert [x.is_enabled() for x in options] == [True, True, True, False]


def test_a_list_without_items_says_so(open_page, shop):
  shop.items = {'P0000': shop.items['P0000']}
  page = open_page('#item=P0000&exclude_seen=1', wait=False)
  wait_for(page, 'No item is left to recommend.')


def test_the_items_with_the_same_prefix_are_shown(open_page, shop):
  page = open_page(HISTORY)
  card = page.locator('.card').nth(3)
  card.locator('summary').click()
  rows = card.locator('.similar li')
  rows.nth(2).wait_for()
  assert [filled(x) for x in rows.all()] == [['3', '1'], ['3'], ['3']]
  assert 'similarity 0.50' in rows.nth(0).inner_text()
  rows.nth(1).locator('button').click()
  wait_for_answer(page)
  assert titles(page, '#history')[-1] == 'Ninth Cup Burr Grinder, Slate Blue'
  # It stays open when the list changes.
  again = page.locator('.card[data-item=P0001] .similar li')
  again.first.wait_for()
