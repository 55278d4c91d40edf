"""Tests of the computed needs of large shops."""

import pytest

from benchmarks import scale_plan


def test_needs_are_worked_out_by_hand():
  rates = scale_plan.Rates(
    events=100, items=50, targets=20, users=5, index=7, codes=16, vector=768,
    event=12, user=8, shard=100, histories=10,
  )  # fmt: skip
  needs = scale_plan.plan(3_600_000, 36_000, rates)
  assert needs == pytest.approx(
    {
      'read the events, core-hours': 1,
      'histories, GB': 0.004608,
      'vectors, GB': 2.7648,
      'codes of all items, core-hours': 20,
      'index of valid IDs, GB': 0.0252,
      'codes of all rows, GB': 0.0576,
      'write the training shards, core-hours': 1,
      'training shards, GB': 0.0036,
      'one pass of training, core-hours': 5,
      'recommend to all users, core-hours': 2,
      'Beam pipelines on ten machines, hours': 24 / 160,
      'one pass of training on ten machines, hours': 5 / 160,
    }
  )


def test_the_table_is_that_of_the_results():
  text = (scale_plan.ROOT / 'benchmarks/RESULTS.md').read_text()
  assert scale_plan.table(scale_plan.Rates()) in text
