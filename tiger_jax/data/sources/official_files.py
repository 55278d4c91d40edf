"""Finds the official files of a dataset in a folder, or downloads them."""

from collections.abc import Iterator
import contextlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tiger_jax.data.files.archives import Member
from tiger_jax.data.files.bad_rows import BadRow
from tiger_jax.data.sources import download
from tiger_jax.errors import DataError


class Official(NamedTuple):
  """The official files of a dataset.

  Attributes:
    dataset: The name of the dataset, for messages and the folder of downloads.
    names: The path of each file in its archive, or its file name.
    page: The address of the web page that describes the files.
    urls: The address of each file, or of the archive; () if the files cannot be
      downloaded without an agreement.
    archives: The paths that an archive with all of the files may have.
  """

  dataset: str
  names: tuple[str, ...]
  page: str
  urls: tuple[str, ...] = ()
  archives: tuple[str, ...] = ()


def candidates(official: Official, folder: Path) -> list[Path]:
  """Returns every path in a folder that `find` may return, existing or not."""
  paths = [path for name in official.names for path in _spellings(folder, name)]
  return [*paths, *(folder / archive for archive in official.archives)]


def find(official: Official, source_dir: str) -> list[Member]:
  """Returns the files in the order of `official.names`.

  Args:
    official: The files.
    source_dir: The folder to search; '' to download the files. In the folder,
      files are preferred to an archive.

  Raises:
    DataError: A file is missing, or cannot be downloaded.
  """
  if not source_dir:
    return _download(official)
  folder = Path(source_dir)
  if not folder.is_dir():
    raise DataError(
      f'there is no folder {folder}: set config.dataset.source_dir to the '
      f'folder of the files of {official.dataset}'
    )
  existing = [
    [path for path in _spellings(folder, name) if path.exists()]
    for name in official.names
  ]
  if all(existing):
    return [Member(paths[0]) for paths in existing]
  for archive in official.archives:
    if (folder / archive).exists():
      return _members(official, folder / archive)
  name = official.names[existing.index([])]
  alternatives = [PurePosixPath(name).name, *official.archives[:1]]
  raise DataError(
    f'{folder} has no {" or ".join(alternatives)}: get it from '
    f'{_address(official, name)} and put it there'
  )


@contextlib.contextmanager
def damage_removed(file: Member) -> Iterator[None]:
  """Removes a damaged download, so that the next run downloads it again.

  A file with unusable rows is not removed, because the official file may have
  such rows.
  """
  try:
    yield
  except DataError as error:
    if not file.is_download or isinstance(error, BadRow):
      raise
    file.path.unlink(missing_ok=True)
    raise DataError(
      f'{error}; the damaged download is removed: run the same command again'
    ) from error


def downloads(dataset: str, parent: Path | None = None) -> Path:
  """Returns the folder for the downloads of a dataset.

  Args:
    dataset: The name of the dataset. The part after `/` is ignored.
    parent: The folder for all downloads; by default, that of TFDS.
  """
  if parent is None:
    import tensorflow_datasets as tfds  # This takes a second.

    parent = Path(tfds.core.constants.DATA_DIR, 'downloads')
  return parent / f'tiger_jax_{dataset.partition("/")[0]}'


def _download(official: Official) -> list[Member]:
  if not official.urls:
    raise DataError(
      f'{official.dataset} cannot be downloaded without an agreement: get '
      f'{(official.archives or official.names)[0]} from {official.page} and '
      'set config.dataset.source_dir to its folder'
    )
  folder = downloads(official.dataset)
  paths = [download.get(url, folder) for url in official.urls]
  if official.archives:
    files = _members(official, paths[0])
  else:
    files = [Member(path) for path in paths]
  return [file._replace(is_download=True) for file in files]


def _members(official: Official, archive: Path) -> list[Member]:
  return [Member(archive, PurePosixPath(name).name) for name in official.names]


def _spellings(folder: Path, name: str) -> list[Path]:
  """Returns the paths of a file, which may be moved or decompressed."""
  moved = PurePosixPath(name).name
  names = [name, name.removesuffix('.gz'), moved, moved.removesuffix('.gz')]
  return [folder / x for x in dict.fromkeys(names)]


def _address(official: Official, name: str) -> str:
  if not official.urls:
    return official.page
  if official.archives:
    return official.urls[0]
  return official.urls[official.names.index(name)]
