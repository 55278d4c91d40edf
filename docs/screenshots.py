"""Takes the screenshots of the documentation: `python -m docs.screenshots`."""

from collections.abc import Iterator
import contextlib
from pathlib import Path
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from PIL import Image

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / 'docs' / 'images'
# The run that the server serves.
SERVED = 'runs/quickstart'
# The page, the width and the height of each screenshot. A page that begins with
# `#` is the page of the server with this history and these options.
SCREENSHOTS = {
  'docs_home.png': ('docs/_build/index.html', 1280, 900),
  'docs_search.png': ('docs/_build/beam_search.html', 1280, 900),
  'docs_evaluation_phone.png': ('docs/_build/evaluation.html', 390, 1100),
  'report.png': ('runs/quickstart/report.html', 1280, 1000),
  'serving.png': ('#item=P0343&item=P0019&exclude_seen=1', 1280, 900),
}
NEEDS_CHROMIUM = 'needs a program `chromium` on PATH: apt-get install chromium'
FLAGS = (
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic',
  '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
  '--virtual-time-budget=2000', '--window-size=1300,1200',
)  # fmt: skip


def find_chromium() -> str | None:
  """Returns the path of Chromium; None if it is not installed."""
  names = ('chromium', 'chromium-browser', 'chrome')
  return next(filter(None, map(shutil.which, names)), None)


def take(
  chromium: str, page: Path | str, width: int, height: int, path: Path
) -> None:
  """Writes a picture of the top of a page, as a window of this size shows it.

  Args:
    chromium: The path of Chromium.
    page: A file, or the address of a page at least 500 pixels wide.
    width: The width of the window in pixels.
    height: The height of the window in pixels.
    path: The file of the picture.

  Raises:
    subprocess.CalledProcessError: Chromium failed.
  """
  with tempfile.TemporaryDirectory() as folder:
    picture, size, address = Path(folder, 'picture.png'), (), page
    if isinstance(page, Path):
      # The narrowest window of Chromium is wider than a phone, so the page is
      # shown in a frame.
      frame = Path(folder, 'frame.html')
      frame.write_text(
        '<!doctype html><body style="margin:0"><iframe style="border:0" '
        f'width="{width}" height="{height}" src="{page.as_uri()}"></iframe>'
      )
      address = frame.as_uri()
    else:
      # The server forbids frames.
      size = (f'--window-size={width},{height + 200}',)
    subprocess.run(
      [
        chromium,
        *FLAGS,
        *size,
        '--hide-scrollbars',
        f'--user-data-dir={folder}/profile',
        f'--screenshot={picture}',
        address,
      ],
      capture_output=True,
      timeout=300,
      check=True,
    )
    with Image.open(picture) as image:
      cropped = image.convert('RGB').crop((0, 0, width, height))
    cropped.quantize().save(path, optimize=True)


@contextlib.contextmanager
def serve(workdir: Path) -> Iterator[str]:
  """Serves a run, and returns the address of the page."""
  with socket.create_server(('127.0.0.1', 0)) as unused:
    port = unused.getsockname()[1]
  address = f'http://127.0.0.1:{port}/'
  command = [
    *(sys.executable, '-m', 'tiger_jax.main', '--mode=serve', '--serve_demo'),
    *(f'--workdir={workdir}', f'--port={port}'),
  ]
  with subprocess.Popen(command, cwd=ROOT) as server:
    try:
      while not _is_ready(address):
        if server.poll() is not None:
          sys.exit('error: the server stopped: see its message above')
        time.sleep(0.2)
      yield address
    finally:
      server.terminate()


def _is_ready(address: str) -> bool:
  try:
    with urllib.request.urlopen(f'{address}readyz', timeout=5):
      return True
  except OSError:
    return False


def main() -> None:
  """Writes all screenshots."""
  chromium = find_chromium()
  if chromium is None:
    sys.exit(f'error: make screenshots {NEEDS_CHROMIUM}')
  with contextlib.ExitStack() as stack:
    for name, (page, width, height) in SCREENSHOTS.items():
      file = ROOT / (SERVED if page.startswith('#') else page)
      if not file.exists():
        sys.exit(f'error: {file} is missing: run `make screenshots`')
      shown: Path | str = file
      if page.startswith('#'):
        shown = stack.enter_context(serve(file)) + page
      take(chromium, shown, width, height, FOLDER / name)
      print(f'wrote docs/images/{name}')


if __name__ == '__main__':
  main()
