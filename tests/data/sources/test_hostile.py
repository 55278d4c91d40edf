"""Tests that malformed files are counted or refused, in bounded memory."""

import gzip
import os
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet  # noqa: F401  # `hostile` uses it.
import pytest

from tests.data.sources import hostile
from tests.small import ROOT
from tiger_jax.data.events import event_log
from tiger_jax.data.files import tables
from tiger_jax.data.files.bad_rows import BadRows
from tiger_jax.data.files.column_names import Columns
from tiger_jax.errors import DataError

# Reads one table in a process with limited memory, like `read` below.
_CHILD = """
import resource, sys
from pathlib import Path
from tests.data.sources.test_hostile import read
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
  print(read(Path(sys.argv[1]))[1].counts.as_json())
except Exception as error:
  print(type(error).__name__, error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def read(path, max_share=1.0):
  bad = BadRows(max_share)
  wanted = Columns(['user', 'item'], ['timestamp'])
  blocks = tables.Table([path], wanted, bad).blocks()
  return event_log.read(blocks, bad, path)[0], bad


def check(folder, cases):
  """Reads all cases; returns the number of malformed records and files."""
  num_records = num_files = 0
  for case in cases:
    path = hostile.write(folder, case)
    num_files += 1
    num_records += case.num_bad
    try:
      log, bad = read(path)
    except DataError as error:
      assert '\n' not in str(error) and len(str(error)) < 700
      assert case.num_rows is None, str(error)
      continue
    counts = bad.counts.as_json()
    assert counts['read'] == counts['kept'] + sum(
      x['rows'] for x in counts['dropped'].values()
    )
    assert counts['kept'] == len(log.users) == len(log.items)
    if case.num_rows is not None:
      assert counts['read'] == case.num_rows, case.name
      assert counts['kept'] == case.num_rows - case.num_bad, case.name
      with pytest.raises(DataError) as caught:
        read(path, 0.0)
      assert '\n' not in str(caught.value)
      assert 'config.dataset.max_bad_share' in str(caught.value)
  return num_records, num_files


def test_malformed_records_are_dropped_and_counted(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / 'shop'
  folder.mkdir()
  num_records, _ = check(folder, hostile.texts(1, 2_000))
  assert num_records >= 2_000
  assert not (tmp_path / hostile.CANARY).exists()


def test_damaged_files_are_refused_or_their_rows_are_counted(tmp_path):
  assert check(tmp_path, hostile.damaged(2, 150)) == (150, 150)


@pytest.mark.slow
def test_thirty_thousand_malformed_records(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / 'shop'
  folder.mkdir()
  start = time.monotonic()
  num_records, num_files = check(folder, hostile.texts(3, 30_000))
  check(folder, hostile.damaged(4, 2_000))
  seconds = time.monotonic() - start
  print(f'{num_records} records in {num_files} files, {seconds:.0f} s')
  assert num_records >= 30_000
  assert not (tmp_path / hostile.CANARY).exists()


@pytest.mark.parametrize('form', ['one line', 'blank lines', 'zeros', 'quote'])
@pytest.mark.parametrize('suffix', ['.csv', '.jsonl'])
def test_a_compression_bomb_needs_little_memory(tmp_path, form, suffix):
  """A text of 400 MB in two megabytes."""
  if suffix == '.jsonl' and form == 'quote':
    pytest.skip('JSON Lines have no quotations of several lines')
  part = {
    'one line': b'x' * 2**20, 'blank lines': b'\n' * 2**20,
    'zeros': bytes(2**20), 'quote': (b'i' * 1023 + b'\n') * 1024,
  }[form]  # fmt: skip
  path = tmp_path / f'interactions{suffix}.gz'
  # Each line after the quotation is a bad row.
  num_parts = 40 if form == 'quote' else 400
  start = b'user,item\nu,i\n' + b'u,"' * (form == 'quote')
  path.write_bytes(
    gzip.compress(start if suffix == '.csv' else b'')
    + gzip.compress(part) * num_parts
  )
  assert path.stat().st_size < 3_000_000
  done = subprocess.run(
    [sys.executable, '-c', _CHILD, str(path)],
    capture_output=True, text=True, timeout=600, cwd=ROOT, check=True,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
  )  # fmt: skip
  text, megabytes = done.stdout.splitlines()
  assert int(megabytes) < 500, text
  assert text.startswith(('DataError', "{'read'")), text


def test_text_of_100_kb_is_kept(tmp_path):
  path = tmp_path / 'interactions.csv'
  long = 'u' * 100_000
  path.write_text(f'user,item\n{long},i\n')
  assert read(path)[0].user_ids == [long]


def test_a_formula_is_only_text(tmp_path):
  path = tmp_path / 'interactions.csv'
  path.write_text('user,item\n=cmd()|A1,@SUM(1)\n')
  log, _ = read(path)
  assert (log.user_ids, log.item_ids) == (['=cmd()|A1'], ['@SUM(1)'])


@pytest.mark.parametrize(
  ('text', 'users'),
  [
    # The quotation of row 2 is never closed, so only its line is bad.
    ('a,b\nc,"d\ne,f\n\ng,h\n', ['a', 'e', 'g']),
    # It is closed in a later line, so all lines up to this line are one row.
    ('a,b\n"c,d\ne,f\n\ng,"h\ni,j\n', ['a', 'i']),
  ],
)
def test_rows_after_an_open_quotation_are_read(tmp_path, text, users):
  path = tmp_path / 'interactions.csv'
  path.write_text(f'user,item\n{text}')
  log, bad = read(path)
  assert list(log.user_ids) == users
  assert (bad.counts.kept, bad.counts.num_dropped) == (len(users), 1)


def test_ids_of_bad_rows_are_not_in_the_log(tmp_path):
  path = tmp_path / 'interactions.csv'
  path.write_text('user,item,timestamp\nb,j,soon\na,i,5\na,k,6\n')
  log, _ = read(path)
  assert (list(log.user_ids), list(log.item_ids)) == (['a'], ['i', 'k'])
  assert (log.users.tolist(), log.items.tolist()) == ([0, 0], [0, 1])


def test_a_carriage_return_does_not_begin_a_row(tmp_path):
  path = tmp_path / 'interactions.csv'
  # Arrow would read as many rows as the file has lines.
  path.write_bytes(b'user,item,title\na,b,x\rc,d,y\ne,f,"g\nh"\n')
  log, bad = read(path)
  assert list(log.user_ids) == ['e']
  assert (bad.counts.kept, bad.counts.num_dropped) == (1, 1)


def test_compressed_parquet_is_refused(tmp_path):
  path = tmp_path / 'interactions.parquet.gz'
  path.write_bytes(gzip.compress(b'PAR1'))
  with pytest.raises(DataError, match='is compressed twice'):
    read(path)


def test_zstd_after_the_end_of_a_frame_is_refused(tmp_path):
  frame = pa.compress(b'user,item\na,b\n', 'zstd', asbytes=True)
  path = tmp_path / 'interactions.csv.zst'
  path.write_bytes(frame + pa.compress(b'c,d\n', 'zstd', asbytes=True))
  assert read(path)[0].user_ids == ['a', 'c']
  for damage in (frame + b'junk', frame[:-1]):
    path.write_bytes(damage)
    with pytest.raises(DataError, match='is damaged'):
      read(path)
