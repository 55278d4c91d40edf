"""Tests that the benchmark of the data stage compares equal records."""

import gzip
import json
import sys

import pytest

from benchmarks import data, measuring
from tiger_jax.data.sources import amazon2014

REVIEWS = [
  {'reviewerID': user, 'asin': item, 'unixReviewTime': 1_300_000_000 + time}
  for time, (user, item) in enumerate(
    [('u', '007'), ('v', 'b'), ('u', 'b'), ('u', 'c')]
  )
]
METADATA = [{'asin': '007', 'title': "It's"}, {'asin': 'b'}, {'asin': 'z'}]


def write(folder, metadata):
  reviews, items = amazon2014.raw_names('Beauty')
  for name, lines in ((reviews, map(json.dumps, REVIEWS)), (items, metadata)):
    (folder / name).write_bytes(gzip.compress('\n'.join(lines).encode()))


@pytest.mark.parametrize('form', [json.dumps, repr], ids=['JSON', 'Python'])
def test_pandas_reads_the_same_records(tmp_path, form):
  write(tmp_path, map(form, METADATA))
  ours = amazon2014.read('Beauty', str(tmp_path))
  reviews, metadata = data.read_with_pandas(tmp_path)
  data.check_equal(ours, (reviews, metadata))
  with pytest.raises(measuring.Mismatch, match='column asin of the reviews'):
    data.check_equal(ours, (reviews.assign(asin='b'), metadata))
  with pytest.raises(measuring.Mismatch, match='items with metadata'):
    data.check_equal(ours, (reviews, metadata[1:]))


def test_a_missing_pandas_ends_the_program_with_one_line(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'pandas', None)
  with pytest.raises(SystemExit, match=r"pip install -e '\.\[bench\]'"):
    data.read_with_pandas(tmp_path)


@pytest.mark.parametrize('suffix', ['csv', 'parquet'])
def test_a_random_shop_is_prepared(tmp_path, suffix):
  data.write_shop(tmp_path, 600, suffix)
  result = data.prepare(tmp_path)
  assert (result['events'], result['items']) == (600, 60)
  assert all(result[x] > 0 for x in ('read_s', 'save_s', 'load_s', 'cpu_s'))
