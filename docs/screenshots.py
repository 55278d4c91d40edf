"""Takes the screenshots of the documentation: `python -m docs.screenshots`."""

from pathlib import Path
import shutil
import subprocess
import sys
import tempfile

from PIL import Image

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / 'docs' / 'images'
# The page, the width and the height of each screenshot.
SCREENSHOTS = {
  'docs_home.png': ('docs/_build/index.html', 1280, 900),
  'docs_search.png': ('docs/_build/beam_search.html', 1280, 900),
  'docs_evaluation_phone.png': ('docs/_build/evaluation.html', 390, 1100),
  'report.png': ('runs/quickstart/report.html', 1280, 1000),
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
  chromium: str, page: Path, width: int, height: int, path: Path
) -> None:
  """Writes a picture of the top of a page, as a window of this size shows it.

  Raises:
    subprocess.CalledProcessError: Chromium failed.
  """
  with tempfile.TemporaryDirectory() as folder:
    # The narrowest window of Chromium is wider than a phone, so the page is
    # shown in a frame.
    frame, picture = Path(folder, 'frame.html'), Path(folder, 'picture.png')
    frame.write_text(
      '<!doctype html><body style="margin:0"><iframe style="border:0" '
      f'width="{width}" height="{height}" src="{page.as_uri()}"></iframe>'
    )
    subprocess.run(
      [
        chromium,
        *FLAGS,
        '--hide-scrollbars',
        f'--user-data-dir={folder}/profile',
        f'--screenshot={picture}',
        frame.as_uri(),
      ],
      capture_output=True,
      timeout=300,
      check=True,
    )
    with Image.open(picture) as image:
      cropped = image.convert('RGB').crop((0, 0, width, height))
    cropped.quantize().save(path, optimize=True)


def main() -> None:
  """Writes all screenshots."""
  chromium = find_chromium()
  if chromium is None:
    sys.exit(f'error: make screenshots {NEEDS_CHROMIUM}')
  for name, (page, width, height) in SCREENSHOTS.items():
    if not (ROOT / page).is_file():
      sys.exit(f'error: {page} is missing: run `make screenshots`')
    take(chromium, ROOT / page, width, height, FOLDER / name)
    print(f'wrote docs/images/{name}')


if __name__ == '__main__':
  main()
