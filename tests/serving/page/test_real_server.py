"""Tests the page with the real server and the model of a finished run."""

import dataclasses

from tests.serving.page.test_adding import add
from tests.serving.page.test_page import titles, wait_for, wait_for_answer
from tests.serving.server import live
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommender import Recommender

# The deadlines of the page are long, and the first searches compile programs.
MILLISECONDS = 90_000


def test_a_user_searches_picks_adds_an_item_and_asks_for_proofs(
  browser, trained
):
  shop = Recommender.from_workdir(trained)
  settings = dataclasses.replace(live.SETTINGS, demo=True)
  errors = []
  with live.serving(shop, trained.parent, settings) as server:
    page = browser.new_page()
    page.set_default_timeout(MILLISECONDS)
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.on('console', lambda message: errors.append(message.text))
    page.goto(f'http://127.0.0.1:{server.port}/')
    wait_for(page, 'these are the most popular items')
    assert titles(page) == [x.title for x in shop.recommend([], 10)]

    page.fill('#search', 'teapot')
    page.locator('#matches li').first.wait_for()
    found = shop.search_titles('teapot')
    assert titles(page, '#matches') == [x.title for x in found]
    page.click('#matches button >> nth=0')
    wait_for(page, 'most likely to be next')
    history = [found[0].item_id]
    assert titles(page, '#history') == [found[0].title]
    assert titles(page) == [x.title for x in shop.recommend(history, 10)]

    add(page, 'new/1', title='Arden Teapot 99', brand='Arden')
    page.locator('#added .path').first.wait_for()
    page.locator('#added .chance', has_text='its probability is').wait_for()
    page.locator('#model', has_text='catalog 2').wait_for()
    served = server.state.models.current.shop
    codes = page.locator('#added .path').first.locator('.code')
    assert codes.all_inner_texts() == [
      str(x) for x in served.semantic_id('new/1')
    ]
    page.click('#added button >> nth=0')
    history.append('new/1')
    wait_for_answer(page)

    page.check('[name=exact]')
    wait_for(page, 'All are proven.')
    expected = served.recommend(history, 10, Options(exact=True))
    assert titles(page) == [x.title for x in expected]
    assert titles(page, '#history')[-1] == 'Arden Teapot 99'
    page.close()
  assert not errors
