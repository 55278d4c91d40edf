"""The evaluation stage: measures the trained model and two baselines."""

from pathlib import Path
from typing import Any

import numpy as np

from tiger_jax.config import Config
from tiger_jax.config.recorded import identity
from tiger_jax.data.sources import synthetic
from tiger_jax.data.splits import split
from tiger_jax.evaluation.measure import measure, measure_masked
from tiger_jax.evaluation.metrics import CUTOFFS, INVALID_CUTOFFS
from tiger_jax.evaluation.ranking import Ranking, Search, Trained, split_users
from tiger_jax.evaluation.users import UserResults
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.ensemble import Ensemble
from tiger_jax.runtime import processes
from tiger_jax.storage import record
from tiger_jax.storage.files import write_json
from tiger_jax.training import replicas

_FILE = 'metrics.json'
# The untrained baselines that every run is compared with. The second one cannot
# be computed if the training histories are in shards.
BASELINES = ('popularity', 'transitions')


def made_from(config: Config, train: str) -> list[Any]:
  """Returns the values that determine the metrics, for fingerprints.

  `train` is the fingerprint of the training stage.
  """
  # Included so that the stage runs again when a metric is added.
  metrics = [CUTOFFS, INVALID_CUTOFFS, 'test_masked', *BASELINES]
  return [identity(config.evaluation), train, *metrics]


def build(session: Session, params: Any, best: int, folder: Path) -> None:
  """Measures the model and untrained baselines on validation and test.

  Also saves the ranks and the recommended items of each test user; the report
  is made from them.

  Args:
    session: The session of the run.
    params: The parameters of all replicas.
    best: The index of the best replica.
    folder: The folder for the results.
  """
  config, dataset = session.config, session.inputs.dataset
  search = Search.from_config(config.evaluation)
  if config.evaluation.ensemble and session.entry.is_generative:
    models = [Ensemble(params)]
  else:
    models = list(replicas.split(params, config.train.replicas))
  trained = [Trained(session, x) for x in models]
  names = BASELINES if dataset.training_counts is None else BASELINES[:1]
  baselines = {x: Trained(session.baseline(x), {}) for x in names}
  values: dict[str, list[dict[str, float]]] = {}
  rankings: dict[str, list[Ranking]] = {}
  baseline_values: dict[str, dict[str, Any]] = {x: {} for x in names}
  baseline_rankings: dict[str, Ranking] = {}
  for name in ('validation', 'test'):
    examples = split_users(session, name)
    values[name], rankings[name] = _columns(
      [measure(x, examples, search, name) for x in trained]
    )
    if name == 'test':
      values['test_masked'], rankings['test_masked'] = _columns(
        [measure_masked(x, examples, search) for x in trained]
      )
    for baseline, untrained in baselines.items():
      baseline_values[baseline][name], baseline_rankings[baseline] = measure(
        untrained, examples, Search()
      )
  results: dict[str, Any] = {
    'baselines': baseline_values,
    'metrics': _over_replicas(np.mean, values),
  }
  if len(models) > 1:
    results['standard_error'] = _over_replicas(_standard_error, values)
    results['replicas'] = {
      'seed': session.seeds,
      'best_on_validation': best,
      **values,
    }
  if config.dataset.name == 'synthetic':
    recall = synthetic.best_possible_recall(dataset, split(dataset, 'test'), 10)
    results['best_possible'] = {'recall@10': recall}
  if processes.is_main():
    users = UserResults.of(
      rankings['test'], rankings['test_masked'], **baseline_rankings
    )
    users.save(folder)
    write_json(folder / _FILE, results)


def load(folder: Path) -> dict[str, Any]:
  """Reads the metrics that `build` wrote."""
  return record.read_object(folder / _FILE)


def _columns(
  measured: list[tuple[dict[str, float], Ranking]],
) -> tuple[list[dict[str, float]], list[Ranking]]:
  """Separates the metrics of the replicas from their rankings."""
  return [values for values, _ in measured], [x for _, x in measured]


def _over_replicas(
  fn: Any, values: dict[str, list[dict[str, float]]]
) -> dict[str, dict[str, float]]:
  return {name: replicas.aggregate(fn, x) for name, x in values.items()}


def _standard_error(values: list[float]) -> float:
  return np.std(values, ddof=1) / len(values) ** 0.5
