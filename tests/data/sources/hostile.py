"""Makes malformed records: files that nobody should be able to crash on."""

from collections.abc import Iterator
import gzip
import json
from pathlib import Path
import random
from typing import NamedTuple

import pyarrow as pa

# Code in a value. If it ran, it would create this file in the current folder.
CANARY = 'canary_was_executed'
_CODE = f"open('{CANARY}', 'w')"


class Case(NamedTuple):
  """A table of interactions with malformed rows.

  Attributes:
    name: The name of the file.
    content: The bytes of the file.
    num_rows: The number of rows; None if it cannot be known.
    num_bad: The number of malformed records in it.
  """

  name: str
  content: bytes
  num_rows: int | None
  num_bad: int


def _values(rng: random.Random) -> list[bytes]:
  """Returns values of JSON that cannot be an id or a time."""
  digits = str(rng.randrange(1, 10))
  return [
    b'null', b'true', b'1.5', b'NaN', b'-Infinity', b'1e400', b'[]',
    b'{"a": 1}', b'""', b'"  "', b'"\\u0000"', b'"\\ud83d"', b'"a\\nb"',
    (digits * 400).encode(), b'[' * 50 + b']' * 50, b'[[1], {"x": [2]}]',
    b'"\\u202e' + digits.encode() + b'"',
  ]  # fmt: skip


def _json_line(rng: random.Random, row: int) -> bytes:
  kind = rng.randrange(8)
  value = rng.choice(_values(rng))
  if kind < 3:
    key = rng.choice((b'user', b'item', b'timestamp'))
    if value.isdigit():  # It could be an id.
      key = b'timestamp'
    good = {b'user': b'"u"', b'item': b'"i"', b'timestamp': b'1400000000'}
    # No value of the list is a time; all but the ids are strings with text.
    good[key] = value
    return b'{%s}' % b', '.join(b'"%s": %s' % x for x in good.items())
  return [
    b'{"item": "i", "timestamp": 1400000000}',
    b'{"user": "u", "item": "i", "timestamp": %d}' % (10**18 + row),
    b"{'user': %s, 'item': 'i', 'timestamp': 1400000000}" % _CODE.encode(),
    b'{"user": "\xff\xfe", "item": "i", "timestamp": 1400000000}',
    rng.choice((
      b'{"user": "u"', b'[' * 2000, b'\x00\x00', b'<html>', b'12', b'"x"',
      b'__import__("os")', b'{"a": ' * 500, b'{[]: 1}', _CODE.encode(),
    )),
  ][kind - 3]  # fmt: skip


def _csv_line(rng: random.Random, row: int) -> bytes:
  return rng.choice((
    b'u,i', b'u,i,1400000000,4,5', b',i,1400000000,x', b'u,,1400000000,x',
    b'u,i,,x', b'u,i,yesterday,x', b'u,i,%d,x' % (10**18 + row),
    b'u,i,NaN,x', b'u,i,1e999,x', b'u,i,inf,x', b'u\x00,i,1400000000,x',
    b'u,\xff\xfe,1400000000,x', b'u,i,=cmd()|A1,x', b'u,i,2024-13-45,x',
    b'u,i,%s,x' % _CODE.encode(), b'u,i,"1400000000""",x', b'x' * 200,
    b'u,i,99999999999999999999999,x', b'u,i,1400000000.5.5,x',
    'u,i,\u202e1400000000,x'.encode(),
    b'u,"i\x1b[2J",1400000000,x',
  ))  # fmt: skip


def texts(seed: int, num_records: int) -> Iterator[Case]:
  """Yields files of about 500 rows, of which most are malformed."""
  rng = random.Random(seed)
  made = 0
  while made < num_records:
    suffix = rng.choice(('.jsonl', '.csv'))
    lines, num_bad = [], 0
    for row in range(500):
      if rng.random() < 0.1:
        user, item, time = row % 7, rng.randrange(20), 1_400_000_000 + row
        line = f'u{user},i{item},{time},x'.encode()
        if suffix == '.jsonl':
          values = {'user': f'u{user}', 'item': f'i{item}', 'timestamp': time}
          line = json.dumps(values).encode()
      else:
        line = (_json_line if suffix == '.jsonl' else _csv_line)(rng, row)
        num_bad += 1
      lines.append(line)
    num_rows = len(lines)
    if suffix == '.csv':
      lines.insert(0, b'user,item,timestamp,title')
      if rng.random() < 0.3:  # A quotation that is never closed.
        lines.append(b'"u,i,1400000000,x')
        num_rows, num_bad = num_rows + 1, num_bad + 1
    content = rng.choice((b'', b'\xef\xbb\xbf')) + b'\n'.join(lines)
    name, content = _compressed(rng, f'interactions{suffix}', content)
    made += num_bad
    yield Case(name, content, num_rows, num_bad)


def _compressed(
  rng: random.Random, name: str, content: bytes
) -> tuple[str, bytes]:
  kind = rng.randrange(3)
  if kind == 1:
    return f'{name}.gz', gzip.compress(content, mtime=0)
  if kind == 2:
    return f'{name}.zst', pa.compress(content, 'zstd', asbytes=True)
  return name, content


def damaged(seed: int, num_files: int) -> Iterator[Case]:
  """Yields compressed and Parquet files with cut, changed or added bytes."""
  rng = random.Random(seed)
  rows = [f'u{i % 7},i{i % 19},{1_400_000_000 + i}' for i in range(400)]
  text = '\n'.join(['user,item,timestamp', *rows]).encode()
  columns = [list(x) for x in zip(*(x.split(',') for x in rows), strict=True)]
  sink = pa.BufferOutputStream()
  pa.parquet.write_table(
    pa.table(dict(zip(('user', 'item', 'timestamp'), columns, strict=True))),
    sink,
  )
  wholes = {
    'interactions.csv.gz': gzip.compress(text, mtime=0),
    'interactions.csv.zst': pa.compress(text, 'zstd', asbytes=True),
    'interactions.parquet': sink.getvalue().to_pybytes(),
  }
  for _ in range(num_files):
    name = rng.choice(list(wholes))
    content = bytearray(wholes[name])
    place = rng.randrange(len(content))
    kind = rng.randrange(4)
    if kind == 0:
      del content[place:]
    elif kind == 1:
      content[place] ^= 1 << rng.randrange(8)
    elif kind == 2:
      content[place : place + 8] = bytes(8)
    else:
      content += bytes([rng.randrange(1, 256)]) * 9
    yield Case(name, bytes(content), None, 1)


def write(folder: Path, case: Case) -> Path:
  """Writes a case to an empty folder, and returns the path."""
  for path in folder.iterdir():
    path.unlink()
  path = folder / case.name
  path.write_bytes(case.content)
  return path
