"""Tests the verdicts on the paper's claims."""

import importlib
import re

import pytest

from tests.report.test_tables import record
from tiger_jax.report.claims import CLAIMS, Claim, make_claims, verdict
from tiger_jax.report.paper import PAPER, without_variant


def claim(**changes):
  values = {'text': 'x', 'paper': '', 'experiment': 'x', 'rows': ('a', 'b')}
  return Claim(**{**values, **changes})


# Two standard errors of .08 and .07 are .00498 for 22,363 users, and .0211 for
# 1,248 users.
@pytest.mark.parametrize(
  ('values', 'changes', 'expected'),
  [
    ((0.0800, 0.0749), {}, 'holds'),
    ((0.0800, 0.0755), {}, 'not shown'),
    ((0.0755, 0.0800), {}, 'not shown'),
    ((0.0700, 0.0800), {}, 'does not hold'),
    ((0.0800, 0.0700), {'num_users': 1248}, 'not shown'),
    ((0.0900, 0.0670), {'num_users': 1248}, 'holds'),
    # The worst pair decides.
    ((0.09, 0.08, 0.079), {}, 'not shown'),
    ((0.09, 0.08, 0.07), {}, 'holds'),
    ((0.09, 0.07, 0.08), {}, 'does not hold'),
    # An entropy is not a share of users.
    ((1.2, 1.1), {'num_users': None}, 'holds'),
    ((1.1, 1.2), {'num_users': None}, 'does not hold'),
    ((0.016,), {'limit': 0.016}, 'holds'),
    ((0.017,), {'limit': 0.016}, 'does not hold'),
    ((0.100, 0.109, 0.105), {'spread': 0.1}, 'holds'),
    ((0.100, 0.111, 0.105), {'spread': 0.1}, 'does not hold'),
  ],
)
def test_verdicts(values, changes, expected):
  assert verdict(claim(**changes), values) == expected


def test_the_table_has_the_claims_whose_rows_have_records():
  def row(run, recall, dataset='beauty'):
    return record(
      experiment='table2_cpu_long',
      run=run,
      dataset=dataset,
      metrics={'test': {'recall@10': recall}},
    )

  records = [row('LSH', 0.0612), row('random', 0.0401)]
  (line,) = [x for x in make_claims(records).splitlines() if 'LSH' in x]
  cells = [x.strip() for x in line.split('|')[1:-1]]
  assert cells[1:] == ['.0533, .0434', 'LSH: .0612, random: .0401', 'holds']
  assert make_claims(records[:1]) == ''
  assert make_claims([records[0], row('random', 0.01, 'toys')]) == ''


@pytest.mark.parametrize('one', CLAIMS, ids=lambda x: x.text)
def test_a_claim_has_rows_of_an_experiment_and_numbers_of_the_paper(one):
  name = without_variant(one.experiment)
  variant = one.experiment.removeprefix(name).removeprefix('_')
  module = importlib.import_module(f'configs.paper.{name}')
  spec = module.get_config(variant)
  assert 'beauty' in spec.measured
  if name not in ('cold_start', 'diversity'):
    assert set(one.rows) <= set(spec.runs)
  rows = PAPER.get(name, {}).get('beauty', {}).values()
  known = {f'{x:.4f}' for values in rows for x in values}
  numbers = re.findall(r'\d*\.\d\d+', one.paper)
  if name != 'invalid_ids':
    assert {f'{float(x):.4f}' for x in numbers} <= known
