"""TIGER and transition counts in one search, see `retrieval.mixture`."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from tiger_jax.evaluation.metrics import CUTOFFS, ranking_metrics
from tiger_jax.evaluation.ranking import (
  Ranking,
  Search,
  Trained,
  rank,
  require_generative,
  split_users,
)
from tiger_jax.retrieval.mixture import Gate

# Candidates for the weight of the transitions.
WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
# Candidates for the weight n / (n + kappa).
KAPPAS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


def measure(trained: Trained) -> dict[str, dict[str, float]]:
  """Returns the metrics of TIGER, the transitions, and two mixtures.

  The weight of the transitions is a constant, or n / (n + kappa) with the count
  n of the last item of the history. The constant and kappa are the best on
  validation, where the search has `evaluation.num_beams` beams. In the test,
  the search adds beams until the lists are proven (see `Search.until_proven`),
  so that the metrics do not depend on the number of beams.

  Returns:
    A dict of metrics for each row. `recall@k` and `ndcg@k` are the test metrics
    for k = 5 and 10. `masked_recall@k` and `masked_ndcg@k` are the same metrics
    for lists without the items of the history. `proven` is the share of the
    listed items that are proven; it is computed for both kinds of lists, and
    the smaller share is returned. The rows of the mixtures also have the
    `weight` and `kappa` of their gate.

  Raises:
    UsageError: The model is not generative.
  """
  session = trained.session
  require_generative(session)
  constant = best_gate(trained, [Gate(x) for x in WEIGHTS])
  by_count = best_gate(trained, [Gate(1.0, x) for x in KAPPAS])
  baseline = Trained(session.baseline('transitions'), {})
  return {
    'TIGER': _measure_test(trained, None),
    'transitions': _measure_test(baseline, None),
    'constant weight': _measure_test(trained, constant),
    'weight by count': _measure_test(trained, by_count),
  }


def best_gate(trained: Trained, gates: Sequence[Gate]) -> Gate:
  """Returns the gate with the best NDCG@10 on validation."""
  num_beams = trained.session.config.evaluation.num_beams

  def validation_ndcg(gate: Gate) -> float:
    ranking = _rank(trained, 'validation', Search(num_beams, gate=gate))
    return ranking_metrics(ranking.hits)['ndcg@10']

  return max(gates, key=validation_ndcg)


def _measure_test(trained: Trained, gate: Gate | None) -> dict[str, float]:
  num_beams = trained.session.config.evaluation.num_beams
  search = Search(num_beams, until_proven=True, gate=gate)
  plain = _rank(trained, 'test', search)
  search = dataclasses.replace(search, exclude_seen=True)
  masked = _rank(trained, 'test', search)
  values = ranking_metrics(plain.hits)
  for name, value in ranking_metrics(masked.hits).items():
    values[f'masked_{name}'] = value
  return {
    **(dataclasses.asdict(gate) if gate else {}),
    **values,
    'proven': float(np.minimum(plain.proven, masked.proven)),
  }


def _rank(trained: Trained, name: str, search: Search) -> Ranking:
  examples = split_users(trained.session, name)
  return rank(trained, examples, max(CUTOFFS), search)
