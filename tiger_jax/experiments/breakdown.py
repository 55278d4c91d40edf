"""Metrics by history length, item popularity and memorized transitions."""

from tiger_jax.evaluation.groups import groups
from tiger_jax.evaluation.metrics import CUTOFFS, ranking_metrics
from tiger_jax.evaluation.ranking import Search, Trained, rank, split_users


def measure(trained: Trained) -> dict[str, dict[str, float]]:
  """Returns the metrics of each group of test users, and the group's share.

  The lists are proven (see `Search.until_proven`), so that the metrics do not
  depend on the number of beams.
  """
  session = trained.session
  examples = split_users(session, 'test')
  search = Search(session.config.evaluation.num_beams, until_proven=True)
  ranking = rank(trained, examples, max(CUTOFFS), search)
  return {
    name: {
      'share': float(mask.mean()),
      **ranking_metrics(ranking.hits[mask]),
      'proven': ranking.select(mask).proven,
    }
    for name, mask in groups(session.inputs.dataset, examples).items()
  }
