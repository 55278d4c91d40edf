"""TIGER and transition counts in one search, see `retrieval.mixture`."""

from collections.abc import Sequence
import dataclasses

from tiger_jax.evaluation.metrics import CUTOFFS, ranking_metrics
from tiger_jax.evaluation.ranking import (
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

  The weight of the transitions is a constant, or n / (n + kappa), where n is
  the number of transitions in the training data from the last item of the
  history. The constant and kappa are the best on validation.

  Returns:
    A dict of metrics for each row. `recall@k` and `ndcg@k` are the test metrics
    for k = 5 and 10. `masked_recall@k` and `masked_ndcg@k` are the same metrics
    for lists without the items of the history. The rows of the mixtures also
    have the `weight` and `kappa` of their gate.

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

  def validation_ndcg(gate: Gate) -> float:
    return _measure(trained, 'validation', gate)['ndcg@10']

  return max(gates, key=validation_ndcg)


def _measure_test(trained: Trained, gate: Gate | None) -> dict[str, float]:
  masked = _measure(trained, 'test', gate, exclude_seen=True)
  return {
    **(dataclasses.asdict(gate) if gate else {}),
    **_measure(trained, 'test', gate),
    **{f'masked_{name}': value for name, value in masked.items()},
  }


def _measure(
  trained: Trained, name: str, gate: Gate | None, exclude_seen: bool = False
) -> dict[str, float]:
  search = Search.from_config(trained.session.config.evaluation)
  search = dataclasses.replace(search, gate=gate, exclude_seen=exclude_seen)
  examples = split_users(trained.session, name)
  ranking = rank(trained, examples, max(CUTOFFS), search)
  return ranking_metrics(ranking.hits)
