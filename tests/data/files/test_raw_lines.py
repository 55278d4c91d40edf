import gzip

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from tiger_jax.data.files import raw_lines
from tiger_jax.errors import DataError

GOOD = b'{"asin": "A", "n": 1}\n'


def write(folder, content, name='records.json.gz'):
  path = folder / name
  path.write_bytes(gzip.compress(content) if name.endswith('.gz') else content)
  return path


def values(path):
  return [record.values for record in raw_lines.read(path)]


def read_error(path):
  with pytest.raises(DataError) as error:
    values(path)
  text = str(error.value)
  assert str(path) in text
  assert '\n' not in text
  assert len(text) < 400
  assert error.value.exit_code == 3
  return text


@pytest.mark.parametrize('name', ['records.jsonl', 'records.json.gz'])
def test_reads_json_and_python_literals(tmp_path, name):
  content = (
    b'\xef\xbb\xbf{"asin": "A", "ok": true, "none": null}\r\n'
    b'\n'
    b"{'asin': 'B', 'title': 'It\\'s \\d', 'ok': True}\n"
    + '{"title": "Crème 🧴"}'.encode()
  )
  assert values(write(tmp_path, content, name)) == [
    {'asin': 'A', 'ok': True, 'none': None},
    {'asin': 'B', 'title': "It's \\d", 'ok': True},
    {'title': 'Crème 🧴'},
  ]


def test_line_numbers_count_blank_lines(tmp_path):
  path = write(tmp_path, b'\n\n' + GOOD, 'x.jsonl')
  (record,) = raw_lines.read(path)
  assert record.where == f'{path}, line 3'


def test_concatenated_gzip_members_are_read(tmp_path):
  path = tmp_path / 'x.json.gz'
  path.write_bytes(gzip.compress(GOOD) + gzip.compress(GOOD))
  assert len(values(path)) == 2


def test_a_missing_file_is_refused(tmp_path):
  assert 'does not exist' in read_error(tmp_path / 'x.json.gz')


def test_a_folder_is_refused(tmp_path):
  path = tmp_path / 'x.jsonl'
  path.mkdir()
  assert 'cannot be read' in read_error(path)


@pytest.mark.parametrize(
  ('content', 'kind'),
  [
    (b'<!DOCTYPE html>\n<html>Moved</html>', 'a web page'),
    (b'\n<HTML>', 'a web page'),
    (GOOD, 'not gzip'),
    (b'', 'empty'),
  ],
)
def test_a_file_that_is_not_gzip_is_refused(tmp_path, content, kind):
  path = tmp_path / 'x.json.gz'
  path.write_bytes(content)
  assert kind in read_error(path)


@pytest.mark.parametrize('kind', ['cut', 'checksum', 'body', 'tail'])
def test_damaged_gzip_is_refused(tmp_path, kind):
  path = write(tmp_path, GOOD * 2000)
  content = bytearray(path.read_bytes())
  if kind == 'cut':
    content = content[:-9]
  elif kind == 'checksum':
    content[-6] ^= 1
  elif kind == 'body':
    content[len(content) // 2] ^= 0xFF
  else:
    content += b'junk'
  path.write_bytes(content)
  text = read_error(path)
  # A changed byte in the body may also decompress to other text.
  assert 'is damaged' in text or (kind == 'body' and 'not a record' in text)


@pytest.mark.parametrize(
  'line',
  [
    b'[1, 2]',
    b'"text"',
    b'12',
    b'null',
    b'{"asin": ',
    b"{'asin': 'A'",
    b"__import__('os').getcwd()",
    b"{'asin': open('x')}",
    b'{"a": 1} {"a": 2}',
    b'{[]: 1}',
    b'\x00',
    b'[' * 100_000,
    b'{"a": ' * 100_000,
    b'{"a": ' + b'9' * 5000 + b'}',
    b'<html>',
  ],
  ids=lambda line: repr(line[:12]),
)
def test_a_line_that_is_not_a_record_is_refused(tmp_path, line):
  text = read_error(write(tmp_path, GOOD + line + b'\n' + GOOD))
  assert 'line 2 is not a record' in text


def test_text_that_is_not_utf8_is_refused(tmp_path):
  assert 'line 2 is not UTF-8' in read_error(
    write(tmp_path, GOOD + b'{"a": "\xff"}')
  )


def test_a_line_above_the_limit_is_refused(tmp_path):
  longest = b'{"a": "'.ljust(2**24 - 2, b'x') + b'"}'
  assert len(values(write(tmp_path, longest))) == 1
  assert 'line 1 is longer than 16777216 bytes' in read_error(
    write(tmp_path, b'x' * (2**24 + 1))
  )


@settings(max_examples=300, deadline=None)
@given(lines=st.lists(st.binary(max_size=40), max_size=4))
def test_any_bytes_are_read_or_refused(tmp_path_factory, lines):
  path = tmp_path_factory.getbasetemp() / 'any.jsonl'
  path.write_bytes(b'\n'.join(lines))
  try:
    assert all(isinstance(record, dict) for record in values(path))
  except DataError as error:
    assert '\n' not in str(error)
