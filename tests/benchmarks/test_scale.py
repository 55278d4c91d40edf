"""Tests of the benchmark of large catalogs."""

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


def test_a_catalog_is_measured():
  figures = {x.name: x for x in scale.measure_catalog(20_000, num_rounds=2)}
  # One byte for each of the last code and the bitmaps, and four for the row.
  assert 5 <= figures['index, bytes per item'].value < 300
  assert figures['programs compiled by the addition'].value == 0


def test_a_lost_item_is_noticed(monkeypatch):
  monkeypatch.setattr(Catalog, 'add', lambda self, codes: self)
  with pytest.raises(measuring.Mismatch, match='an added item is missing'):
    scale.measure_catalog(5000, num_rounds=1)


def test_assignments_are_measured(tmp_path):
  figures = scale.measure_assignment(tmp_path, 6000, sample=500)
  names = [x.name for x in figures]
  assert 'fit to a sample of 500 items, s' in names
  assert all(x.value > 0 for x in figures)
