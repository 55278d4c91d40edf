"""Tests the verdicts on the paper's claims."""

import importlib

import pytest

from tests.report.test_tables import record
from tests.small import ROOT
from tiger_jax.evaluation.metrics import RANKING
from tiger_jax.report import records
from tiger_jax.report.claims import CLAIMS, Claim, make_claims, verdict
from tiger_jax.report.paper import PAPER, without_variant


def claim(**changes):
  values = {'text': 'x', 'paper': '', 'experiment': 'x', 'rows': ('a', 'b')}
  return Claim(**{**values, **changes})


# Two standard errors of the difference of .08 and .07 are .00498 for 22,363
# users, and .0211 for 1,248 users.
@pytest.mark.parametrize(
  ('values', 'changes', 'expected'),
  [
    ((0.0800, 0.0749), {}, 'holds here'),
    ((0.0800, 0.0755), {}, 'not shown'),
    ((0.0755, 0.0800), {}, 'not shown'),
    ((0.0700, 0.0800), {}, 'does not hold here'),
    ((0.0800, 0.0700), {'num_users': 1248}, 'not shown'),
    ((0.0900, 0.0670), {'num_users': 1248}, 'holds here'),
    # The worst pair decides.
    ((0.09, 0.08, 0.079), {}, 'not shown'),
    ((0.09, 0.08, 0.07), {}, 'holds here'),
    ((0.09, 0.07, 0.08), {}, 'does not hold here'),
    # An entropy is not a share of users.
    ((1.2, 1.1), {'num_users': None}, 'holds here'),
    ((1.1, 1.2), {'num_users': None}, 'does not hold here'),
    ((0.016,), {'limit': 0.016}, 'holds here'),
    ((0.017,), {'limit': 0.016}, 'does not hold here'),
    ((0.100, 0.109, 0.105), {'spread': 0.1}, 'holds here'),
    ((0.100, 0.111, 0.105), {'spread': 0.1}, 'does not hold here'),
  ],
)
def test_verdicts(values, changes, expected):
  assert verdict(claim(**changes), values) == expected


def test_claims_are_in_the_table_or_among_those_without_records():
  def row(run, recall, dataset='beauty', **masked):
    return record(
      experiment='table2_cpu_long',
      run=run,
      dataset=dataset,
      metrics={'test': {'recall@10': recall}, **masked},
    )

  rows = [row('LSH', 0.0612), row('random', 0.0401)]
  line, *missing = [x for x in make_claims(rows).splitlines() if 'LSH' in x]
  assert missing == [
    '- IDs of an RQ-VAE are better than IDs of LSH (Table 2): table2_cpu_long'
  ]
  cells = [x.strip() for x in line.split('|')[1:-1]]
  assert cells[1:] == [
    '.0533, .0434',
    'LSH: .0612, random: .0401',
    'holds here',
    '',
    '',
  ]
  masked = [
    row('LSH', 0.0612, test_masked={'recall@10': 0.07}),
    row('random', 0.0401, test_masked={'recall@10': 0.08}),
  ]
  line, _ = [x for x in make_claims(masked).splitlines() if 'LSH' in x]
  assert line.endswith(
    '| holds here | LSH: .0700, random: .0800 | does not hold here |'
  )
  masked = [
    record(
      experiment='ensemble_cpu_long',
      run=run,
      metrics={'test': {'recall@10': 0.09, 'masked_recall@10': recall}},
    )
    for run, recall in (('SASRec + TIGER', 0.1), ('SASRec', 0.093))
  ]
  (line,) = [x for x in make_claims(masked).splitlines() if '+' in x]
  assert line.endswith(
    '| SASRec + TIGER: .0900, SASRec: .0900 | not shown '
    '| SASRec + TIGER: .1000, SASRec: .0930 | holds here |'
  )
  assert make_claims(rows[:1]) == ''
  assert make_claims([rows[0], row('random', 0.01, 'toys')]) == ''


@pytest.mark.parametrize('one', CLAIMS, ids=lambda x: x.text)
def test_the_rows_of_a_claim_exist(one):
  name = without_variant(one.experiment)
  variant = one.experiment.removeprefix(name).removeprefix('_')
  spec = importlib.import_module(f'configs.paper.{name}').get_config(variant)
  assert 'beauty' in spec.measured
  # The rows of some experiments are not runs.
  recorded = (ROOT / 'results' / f'{name}_cpu' / 'beauty').glob('*.json')
  known = {*spec.runs, *(records.read(path)['run'] for path in recorded)}
  assert set(one.rows) <= known


@pytest.mark.parametrize('one', CLAIMS, ids=lambda x: x.text)
def test_the_numbers_of_the_paper_are_those_of_its_rows(one):
  name = without_variant(one.experiment)
  names = {'TIGER, two cores': 'TIGER', 'SASRec, BCE': 'SASRec'}
  paper = PAPER.get(name, {}).get('beauty', {})
  # Otherwise, the metric is Entropy@10, the first value of a row of `PAPER`.
  place = RANKING.index(one.metric) if one.metric in RANKING else 0
  rows = [paper.get(names.get(x, x)) for x in one.rows]
  if not one.paper or None in rows:
    # The paper has a figure, or other numbers of layers.
    assert not one.paper or name in ('cold_start', 'invalid_ids', 'layers')
    return
  expected = [round(x[place], 4) for x in rows]
  assert [float(x) for x in one.paper.split(',')] == expected
