"""Tests the screenshots of the documentation."""

from PIL import Image
import pytest

from docs import screenshots
from tests.serving.page.shop import serve

CHROMIUM = screenshots.find_chromium()


def test_the_repository_has_all_screenshots():
  sizes = {}
  for path in screenshots.FOLDER.iterdir():
    with Image.open(path) as image:
      sizes[path.name] = image.size
  assert sizes == {
    name: (width, height)
    for name, (_, width, height) in screenshots.SCREENSHOTS.items()
  }


@pytest.mark.skipif(CHROMIUM is None, reason=screenshots.NEEDS_CHROMIUM)
def test_a_screenshot_shows_the_page_at_the_width_of_a_phone(tmp_path):
  page, picture = tmp_path / 'page.html', tmp_path / 'picture.png'
  page.write_text(
    '<!doctype html><body style="background: red"><script>'
    "if (innerWidth == 390) document.body.style.background = 'lime';</script>"
  )
  screenshots.take(CHROMIUM, page, 390, 1100, picture)
  with Image.open(picture) as image:
    assert image.size == (390, 1100)
    assert image.convert('RGB').getcolors() == [(390 * 1100, (0, 255, 0))]


@pytest.mark.skipif(CHROMIUM is None, reason=screenshots.NEEDS_CHROMIUM)
def test_a_screenshot_shows_a_page_of_a_server(tmp_path):
  shop, picture = serve(), tmp_path / 'page.png'
  try:
    screenshots.take(CHROMIUM, shop.url + '#k=5', 1280, 900, picture)
    with Image.open(picture) as image:
      assert image.size == (1280, 900)
    # The page has loaded its scripts, and has read the options.
    assert [x['k'] for x in shop.requests] == [5]
  finally:
    shop.shutdown()
    shop.server_close()


def test_missing_programs_and_pages_are_named(tmp_path, monkeypatch):
  monkeypatch.setattr(screenshots, 'ROOT', tmp_path)
  monkeypatch.setattr(screenshots, 'find_chromium', lambda: 'chromium')
  with pytest.raises(SystemExit, match='index.html is missing: run `make'):
    screenshots.main()
  monkeypatch.setattr(screenshots, 'find_chromium', lambda: None)
  with pytest.raises(SystemExit, match='needs a program `chromium` on PATH'):
    screenshots.main()
