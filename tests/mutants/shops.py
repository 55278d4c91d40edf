"""Faults of the readers of known datasets."""

from tests.mutants.mutant import Mutant

_SOURCES = 'tiger_jax/data/sources'
_TESTS = 'tests/data/sources'

MUTANTS = (
  Mutant(
    'an archive member is found by its whole path',
    'tiger_jax/data/files/archives.py',
    'return PurePosixPath(path).name == name and',
    'return path == name and',
    'tests/data/files/test_archives.py::test_a_member_is_found_by_its_file_name',
  ),
  Mutant(
    'the first of several members of the same name is read',
    'tiger_jax/data/files/archives.py',
    'if num_found != 1:',
    'if not num_found:',
    'tests/data/files/test_archives.py::'
    'test_a_member_must_be_the_only_one_of_its_name',
  ),
  Mutant(
    'a zip bomb is read',
    'tiger_jax/data/files/archives.py',
    'if info.file_size > 2**20 + _MOST_COMPRESSED * info.compress_size:',
    'if info.file_size > 2**40 + _MOST_COMPRESSED * info.compress_size:',
    'tests/data/files/test_archives.py::test_a_bomb_is_refused',
  ),
  Mutant(
    'links in a tar archive count as files',
    'tiger_jax/data/files/archives.py',
    'if not info.isreg() or',
    'if info.isdir() or',
    'tests/data/files/test_archives.py::test_a_link_in_a_tar_archive_is_not_followed',
  ),
  Mutant(
    'the checksum of a tar archive is not checked',
    'tiger_jax/data/files/archives.py',
    'while forward.read(2**20):',
    'while False:',
    'tests/data/files/test_archives.py::test_damaged_archives_are_refused',
  ),
  Mutant(
    'the times of a text file are not read',
    f'{_SOURCES}/text_shop.py',
    'if events.time >= 0:',
    'if events.time > 9:',
    f'{_TESTS}/test_movielens.py::test_1m_is_read_from_the_archive',
  ),
  Mutant(
    'the first copy of an item is kept',
    'tiger_jax/data/events/item_table.py',
    'column[position] = texts[name]',
    'column[position] = column[position]',
    f'{_TESTS}/test_json_shops.py::test_amazon2018',
  ),
  Mutant(
    'the variant of a product is the item, not the product',
    f'{_SOURCES}/known_shops.py',
    "  item='parent_asin',",
    "  item='asin',",
    f'{_TESTS}/test_json_shops.py::test_amazon2023',
  ),
  Mutant(
    'genres form one path',
    f'{_SOURCES}/known_shops.py',
    'return [[name] if isinstance(name, str) else name for name in names]',
    'return names',
    f'{_TESTS}/test_json_shops.py::test_steam',
  ),
  Mutant(
    'the catalog of Amazon has items without reviews',
    f'{_SOURCES}/json_shops.py',
    'if wanted is not None and item_id not in wanted:',
    'if wanted is None and item_id not in wanted:',
    f'{_TESTS}/test_json_shops.py::test_amazon2018',
  ),
  Mutant(
    'a bad official file is downloaded again',
    f'{_SOURCES}/official_files.py',
    'if not file.is_download or isinstance(error, BadRow):',
    'if not file.is_download:',
    f'{_TESTS}/test_movielens.py::test_a_download_with_a_bad_row_is_kept',
  ),
  Mutant(
    'the last line without a line end is lost',
    'tiger_jax/data/files/delimited.py',
    '  if rest:\n    yield rest\n',
    '  if not rest:\n    yield rest\n',
    f'{_TESTS}/test_movielens.py::test_bad_rows_are_refused_or_counted',
  ),
)
