"""Whose next item is found: by history, popularity, and what was seen."""

from tiger_jax.data.splits import split
from tiger_jax.evaluation.groups import groups
from tiger_jax.evaluation.metrics import CUTOFFS, ranking_metrics
from tiger_jax.evaluation.ranking import Search, Trained, rank, sample_users


def measure(trained: Trained) -> dict[str, dict[str, float]]:
  """Returns the metrics of groups of the test users, and their shares.

  The lists are proven (see `ranking`), so that the metrics describe the model
  and not the number of beams.
  """
  dataset, c = trained.session.inputs.dataset, trained.session.config
  examples = sample_users(
    split(dataset, 'test'), c.evaluation.num_users, c.seed
  )
  search = Search(c.evaluation.num_beams, until_proven=True)
  ranking = rank(trained, examples, max(CUTOFFS), search)
  return {
    name: {
      'share': float(members.mean()),
      **ranking_metrics(ranking.hits[members]),
      'proven': ranking.of(members).proven,
    }
    for name, members in groups(dataset, examples).items()
  }
