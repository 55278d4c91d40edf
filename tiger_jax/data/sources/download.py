"""Downloads files, with timeouts and retries."""

from collections.abc import Sequence
import http.client
import os
from pathlib import Path
import time
import urllib.error
import urllib.request

from tqdm import tqdm

from tiger_jax.data import item_text
from tiger_jax.errors import DataError

_CHUNK_BYTES = 2**20


def get(
  url: str,
  folder: Path,
  *,
  patience: float = 60.0,
  waits: Sequence[float] = (1.0, 5.0),
) -> Path:
  """Downloads a file to a folder, unless it exists there, and returns its path.

  Args:
    url: The address of the file.
    folder: The folder.
    patience: An attempt fails after this many seconds without data.
    waits: The time before each retry, in seconds.

  Raises:
    DataError: The file cannot be downloaded.
    OSError: The file cannot be written.
  """
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / url.rpartition('/')[2]
  if path.exists():
    return path
  # The process id is in the name, because two runs may download the same file.
  partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
  for wait in (*waits, None):
    try:
      _copy(url, partial, patience)
      break
    except (_Failed, TimeoutError, http.client.HTTPException) as error:
      is_permanent = isinstance(error, _Failed) and error.is_permanent
      if wait is None or is_permanent:
        partial.unlink(missing_ok=True)
        reason = item_text.plain(str(error))[:200]
        raise DataError(
          f'cannot download {url} ({reason}): try again, or download it in '
          'another way and set config.dataset.source_dir to its folder'
        ) from error
    except OSError as error:
      partial.unlink(missing_ok=True)
      # The error of a full disk does not name the file, so the path is added.
      raise OSError(error.errno, error.strerror, str(path)) from error
    time.sleep(wait)
  partial.replace(path)
  return path


class _Failed(Exception):
  """A failed attempt. If `is_permanent` is true, a retry would fail too."""

  is_permanent = False


def _copy(url: str, partial: Path, patience: float) -> None:
  try:
    response = urllib.request.urlopen(url, timeout=patience)
  except urllib.error.HTTPError as error:
    error.close()
    failed = _Failed(f'HTTP {error.code} {error.reason}')
    failed.is_permanent = error.code < 500
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
    while chunk := _next(response, patience):
      file.write(chunk)
      bar.update(len(chunk))
    size = file.tell()
  if size < expected:
    raise _Failed(f'the download ended after {size} of {expected} bytes')


def _next(response: http.client.HTTPResponse, patience: float) -> bytes:
  try:
    return response.read1(_CHUNK_BYTES)
  except TimeoutError as error:
    raise _Failed(f'no data for {patience:.0f} seconds') from error
  except OSError as error:
    raise _Failed(str(error)) from error
