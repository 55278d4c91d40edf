"""Tests of the benchmark of large catalogs."""

import numpy as np
import pytest

from benchmarks import measuring, scale
from tiger_jax.catalog.catalog import Catalog


def test_figures_miss_their_targets():
  assert scale.Figure('a', 1.4, 1.3).missed
  assert not scale.Figure('a', 1.2, 1.3).missed
  assert scale.Figure('a', 5, 6, at_least=True).missed
  assert not scale.Figure('a', 7, 6, at_least=True).missed
  assert not scale.Figure('a', 7).missed
  assert scale.Figure('a', 7e4, 6e4, at_least=True).cells() == [
    'a', '70,000', 'at least 60,000',
  ]  # fmt: skip


@pytest.mark.parametrize('is_zipf', [False, True])
def test_a_catalog_is_measured(is_zipf):
  measured = scale.measure_catalog(20_000, num_rounds=2, is_zipf=is_zipf)
  figures = {x.name: x for x in measured}
  # One byte for each of the last code and the bitmaps, and four for the row.
  assert 5 <= figures['index, bytes per item'].value < 300
  assert figures['programs compiled by the addition'].value == 0


def test_codes_have_a_zipf_distribution():
  codes = scale._draw_zipf(50_000)
  assert len(np.unique(codes, axis=0)) == len(codes) == 50_000
  counts = np.bincount(codes[:, 3], minlength=256)
  # Distinct IDs are less skewed than the draws.
  assert 4 < counts[0] / counts[9] < 11
  assert counts[:100].min() > counts[200:].max() / 2


def test_a_lost_item_is_noticed(monkeypatch):
  monkeypatch.setattr(Catalog, 'add', lambda self, codes: self)
  with pytest.raises(measuring.Mismatch, match='an added item is missing'):
    scale.measure_catalog(5000, num_rounds=1)


def test_assignments_are_measured(tmp_path):
  figures = scale.measure_assignment(tmp_path, 6000, sample=500)
  names = [x.name for x in figures]
  assert 'fit to a sample of 500 items, s' in names
  assert all(x.value > 0 for x in figures)
