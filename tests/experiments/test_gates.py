"""Tests how the share of the transitions is chosen.

The model has fixed answers.
"""

import numpy as np
import pytest

from tests.experiments.test_rules import WALKS, OneSplit, trained
from tiger_jax.errors import UsageError
from tiger_jax.experiments import mixture


class ByGate(OneSplit):
  """Ranks the target first on validation or on test, depending on the gate."""

  def __init__(self, gate=None):
    super().__init__({}, -np.arange(60.0, dtype=np.float32))
    self.gate = gate

  def with_mixture(self, mixture):
    changed = ByGate((float(mixture.weight), float(mixture.kappa)))
    changed.calls = self.calls
    return changed

  def search(self, params, batch, k, **options):
    right = [(np.float32(0.2), 0), (1, 10)]
    wrong = [(np.float32(0.7), 0), (1, 100)]
    self.targets = {
      (user, length): walk[length]
      for gates, length in ((right, 2), (wrong, 3))
      for user, walk in enumerate(WALKS)
      if self.gate in gates
    }
    return super().search(params, batch, k, **options)


def test_the_gates_of_a_mixture_are_chosen_on_validation():
  retriever = ByGate()
  rows = mixture.measure(trained(retriever))
  assert list(rows) == [
    'TIGER', 'transitions', 'constant weight', 'weight by count',
  ]  # fmt: skip
  assert rows['constant weight']['weight'] == 0.2
  assert rows['weight by count']['kappa'] == 10
  for row in rows.values():
    assert row['ndcg@10'] < 1 and row['masked_ndcg@10'] < 1
  # The search has the 30 beams of the config. On test, whose histories have
  # three items, it runs with and without masking.
  assert set(retriever.calls) == {
    (30, 10, 2, False), (30, 10, 3, False), (30, 10, 3, True),
  }  # fmt: skip


def test_a_mixture_needs_a_generative_model():
  with pytest.raises(UsageError, match="'sasrec'.*generates Semantic IDs"):
    mixture.measure(trained(None, model='sasrec'))
