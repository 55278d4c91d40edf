"""Tests the report in Chromium at the width of a phone and of a desktop."""

import html
import re
import subprocess

import pytest

from docs import screenshots
from tests.report.test_page import HOSTILE, with_texts
from tiger_jax.report import page
from tiger_jax.stages.report import read_run

CHROMIUM = screenshots.find_chromium()
# The narrowest window of Chromium is wider than a phone, so the page is
# measured in a frame.
FRAME = """<!doctype html><iframe style="width:{width}px;height:900px;border:0"
srcdoc="{source}"></iframe><script>
addEventListener('load', function () {{
  var frame = document.querySelector('iframe').contentWindow;
  var page = frame.document;
  page.querySelectorAll('details').forEach(function (x) {{ x.open = true; }});
  var band = page.querySelector('.tip');
  var tip = page.getElementById('tip');
  band.dispatchEvent(new frame.PointerEvent('pointermove', {{clientX: 40}}));
  document.title = [page.documentElement.scrollWidth, frame.innerWidth,
    page.querySelectorAll('.tip title').length, tip.style.display].join(' ');
  document.querySelector('iframe').remove();
  console.log('measured');
}});</script>"""

pytestmark = pytest.mark.skipif(
  CHROMIUM is None,
  reason=screenshots.NEEDS_CHROMIUM,
)


@pytest.mark.parametrize('width', [390, 1280])
def test_the_report_fits_the_window_and_shows_tips(trained, tmp_path, width):
  run = with_texts(read_run(trained), HOSTILE)
  source = html.escape(page.render(run))
  path = tmp_path / 'frame.html'
  frame = FRAME.format(width=width, source=source)
  path.write_text(frame, encoding='utf-8')
  done = subprocess.run(
    [
      CHROMIUM,
      *screenshots.FLAGS,
      '--enable-logging=stderr',
      '--dump-dom',
      f'--user-data-dir={tmp_path / "profile"}',
      path.as_uri(),
    ],
    capture_output=True,
    text=True,
    timeout=300,
    check=True,
  )
  title = re.search('<title>(.*?)</title>', done.stdout)
  assert title, done.stderr
  scrolled, inner, num_titles, shown = title[1].split()
  assert int(inner) == width
  assert int(scrolled) <= width
  # The script has replaced the titles with the box that follows the pointer.
  assert (num_titles, shown) == ('0', 'block')
  lines = [x for x in done.stderr.splitlines() if 'CONSOLE' in x]
  assert len(lines) == 1 and '"measured"' in lines[0], lines
