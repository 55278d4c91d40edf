import gzip
import io
import tarfile
import zipfile

import pytest

from tiger_jax.data.files import archives
from tiger_jax.data.files.archives import Member
from tiger_jax.errors import DataError

LINES = b'1::2\n' * 100_000


def read(path, name='x.dat'):
  with archives.opened(Member(path, name)) as file:
    return b''.join(iter(lambda: file.read(2**20), b''))


def read_error(path, name='x.dat'):
  with pytest.raises(DataError) as error:
    read(path, name)
  text = str(error.value)
  assert text.startswith(str(path))
  assert '\n' not in text
  return text


def write_zip(path, members, compression=zipfile.ZIP_DEFLATED):
  with zipfile.ZipFile(path, 'w', compression) as archive:
    for name, content in members:
      archive.writestr(name, content)
  return path


def write_tar(path, members, mode='w'):
  with tarfile.open(path, mode) as archive:
    for name, content in members:
      info = tarfile.TarInfo(name)
      if isinstance(content, bytes):
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
      else:
        info.type, info.linkname = tarfile.SYMTYPE, content
        archive.addfile(info)
  return path


@pytest.mark.parametrize(
  'name', ['x.dat', 'ml-1m/x.dat', '../../x.dat', '/etc/x.dat']
)
def test_a_member_is_found_by_its_file_name(tmp_path, name):
  others = [('y.dat', b''), ('x.dat/', b''), ('__MACOSX/x.dat', b'')]
  members = [*others, (name, LINES)]
  assert read(write_zip(tmp_path / 'x.zip', members)) == LINES
  tar = write_tar(tmp_path / 'x.tar', [members[0], *members[2:]])
  assert read(tar) == LINES
  assert {x.name for x in tmp_path.iterdir()} == {'x.zip', 'x.tar'}


@pytest.mark.parametrize('write', [write_zip, write_tar])
@pytest.mark.parametrize('count', [0, 2])
def test_a_member_must_be_the_only_one_of_its_name(tmp_path, write, count):
  members = [(f'{i}/x.dat', b'') for i in range(count)]
  path = write(tmp_path / f'{write.__name__[6:]}.{write.__name__[6:]}', members)
  assert f'holds {count} files named x.dat, not one' in read_error(path)


def test_a_link_in_a_tar_archive_is_not_followed(tmp_path):
  secret = tmp_path / 'secret'
  secret.write_text('secret')
  path = write_tar(tmp_path / 'x.tar', [('x.dat', str(secret))])
  assert 'holds 0 files' in read_error(path)


@pytest.mark.parametrize('size', [0, 10, 200, 700, -1])
def test_damaged_archives_are_refused(tmp_path, size):
  content = [
    write_zip(tmp_path / 'a.zip', [('x.dat', LINES)]).read_bytes(),
    write_tar(tmp_path / 'a.tar.gz', [('x.dat', LINES)], 'w:gz').read_bytes(),
    # With more padding than is read at a time.
    gzip.compress(
      write_tar(tmp_path / 'a.tar', [('x.dat', LINES)]).read_bytes()
      + bytes(2**21)
    ),
  ]
  for name, whole in zip(('b.zip', 'b.tar', 'c.tar'), content, strict=True):
    path = tmp_path / name
    path.write_bytes(whole[:size] if size >= 0 else whole[:-9])
    read_error(path)


def test_a_changed_byte_is_detected(tmp_path):
  path = write_zip(tmp_path / 'x.zip', [('x.dat', LINES)], zipfile.ZIP_STORED)
  content = bytearray(path.read_bytes())
  content[1000] ^= 1
  path.write_bytes(content)
  assert 'damaged (Bad CRC-32' in read_error(path)


def test_a_bomb_is_refused(tmp_path):
  path = write_zip(tmp_path / 'x.zip', [('x.dat', bytes(2**24))])
  assert 'expands to 16,777,216 bytes' in read_error(path)


def test_an_archive_of_too_many_files_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(archives, '_MOST_MEMBERS', 2)
  members = [('x.dat', b'1'), ('y.dat', b'2')]
  assert read(write_tar(tmp_path / 'x.tar', members)) == b'1'
  path = write_tar(tmp_path / 'y.tar', [*members, ('z.dat', b'3')])
  assert 'holds more than 2 files' in read_error(path)


def test_a_header_of_a_tar_archive_has_a_limit(tmp_path):
  info = tarfile.TarInfo('x.dat')
  info.type, info.size = tarfile.XHDTYPE, 2**30
  path = tmp_path / 'x.tar'
  path.write_bytes(info.tobuf() + bytes(1024))
  assert 'has a header of 1,073,741,824 bytes' in read_error(path)


def test_blank_space_in_a_tar_archive_has_a_limit(tmp_path):
  path = write_tar(tmp_path / 'x.tgz', [('x.dat', bytes(2**25))], 'w:gz')
  assert 'bytes of blank space' in read_error(path)


def test_a_tar_archive_in_a_zip_archive_is_read(tmp_path):
  for mode in ('w', 'w:gz'):
    tar = write_tar(tmp_path / 'x.tar', [('x.dat', LINES), ('y', b'')], mode)
    content = [('Yelp JSON/x.tar', tar.read_bytes()), ('terms.pdf', b'')]
    path = write_zip(tmp_path / 'Yelp-JSON.zip', content)
    assert read(path) == LINES
    half = tar.read_bytes()[: tar.stat().st_size // 2]
    damaged = [('x.tar', half), ('y.tar', b'')]
    read_error(write_zip(tmp_path / 'a.zip', damaged[:1]))
    assert 'holds 0 files' in read_error(write_zip(tmp_path / 'b.zip', damaged))


def test_an_encrypted_member_is_refused(tmp_path):
  path = write_zip(tmp_path / 'x.zip', [('x.dat', b'1')], zipfile.ZIP_STORED)
  content = bytearray(path.read_bytes())
  content[content.index(b'PK\x01\x02') + 8] |= 1
  path.write_bytes(content)
  assert 'is encrypted' in read_error(path)


def test_an_unknown_compression_is_refused(tmp_path):
  path = write_zip(tmp_path / 'x.zip', [('x.dat', b'1')], zipfile.ZIP_STORED)
  content = bytearray(path.read_bytes())
  content[8] = content[content.index(b'PK\x01\x02') + 10] = 97
  path.write_bytes(content)
  assert 'compression' in read_error(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
  for name in ('x.zip', 'x.tar', 'x'):
    assert 'does not exist' in read_error(tmp_path / name)
    folder = tmp_path / f'folder.{name}'
    folder.mkdir()
    assert 'cannot be read' in read_error(folder)
