"""Downloads that end: with the whole file, or with one line."""

import http.client
import os
from pathlib import Path
import time
import urllib.error
import urllib.request

from tqdm import tqdm

from tiger_jax.data import item_text
from tiger_jax.errors import DataError

# Seconds without a single byte, after which a server is taken for stalled.
_PATIENCE = 60.0
# Seconds before each further try.
_WAITS = (1.0, 5.0)
_CHUNK_BYTES = 2**20


def get(url: str, folder: Path) -> Path:
  """Downloads a file, unless it is there already.

  Args:
    url: Its last part is the name of the file.
    folder: Is made if it does not exist.

  Returns:
    The file in the folder, which is as long as the server said.

  Raises:
    DataError: It cannot be downloaded.
    OSError: It cannot be written.
  """
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / url.rpartition('/')[2]
  if path.exists():
    return path
  # Two runs may download the same file at once.
  partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
  for wait in (*_WAITS, None):
    try:
      _copy(url, partial)
      break
    except (_Failed, TimeoutError, http.client.HTTPException) as error:
      lasting = isinstance(error, _Failed) and error.lasting
      if wait is None or lasting:
        partial.unlink(missing_ok=True)
        reason = item_text.plain(str(error))[:200]
        raise DataError(
          f'cannot download {url} ({reason}): try again, or download it by '
          'other means and name its folder in config.dataset.source_dir'
        ) from error
    time.sleep(wait)
  partial.replace(path)
  return path


class _Failed(Exception):
  """What the network or the server answered; lasting if it will again."""

  lasting = False


def _copy(url: str, partial: Path) -> None:
  try:
    response = urllib.request.urlopen(url, timeout=_PATIENCE)
  except urllib.error.HTTPError as error:
    error.close()
    failed = _Failed(f'HTTP {error.code} {error.reason}')
    failed.lasting = error.code < 500
    raise failed from error
  except OSError as error:
    raise _Failed(str(error)) from error
  expected = int(response.headers.get('Content-Length') or 0)
  with (
    response,
    partial.open('wb') as file,
    tqdm(total=expected or None, desc=url.rpartition('/')[2], unit='B',
         unit_scale=True, delay=3, leave=False) as bar,
  ):  # fmt: skip
    while chunk := _next(response):
      file.write(chunk)
      bar.update(len(chunk))
    size = file.tell()
  if size < expected:
    raise _Failed(f'it ended after {size} of {expected} bytes')


def _next(response: http.client.HTTPResponse) -> bytes:
  try:
    return response.read1(_CHUNK_BYTES)
  except TimeoutError as error:
    raise _Failed(f'no answer for {_PATIENCE:.0f} seconds') from error
  except OSError as error:
    raise _Failed(str(error)) from error
