"""Items that nobody has bought before (Figure 5)."""

import collections
from collections.abc import Sequence
import dataclasses

from jaxtyping import Bool, Int
import numpy as np

from tiger_jax.data.splits import split
from tiger_jax.errors import UsageError
from tiger_jax.evaluation.metrics import ranking_metrics
from tiger_jax.evaluation.ranking import Search, Trained, rank

CUTOFFS = (10, 20, 50)
# The largest share of unseen items among those recommended.
EPSILONS = (0.1, 0.2, 0.3)
# Long enough that lists by exact scores contain unseen items.
_DEPTH = 128
# Semantic-KNN is the mean of so many, as configs/baselines.py:item_knn is.
NUM_NEAREST_TO = 5


def measure(trained: Trained) -> dict[str, dict[str, float]]:
  """Returns recall of users whose next item is unseen, by three rules.

  `prefix` is the paper's: the model generates IDs of seen items, and each is
  followed by the unseen items that share its codes of meaning. `exact` scores
  unseen items by their own IDs, as it does the others. `Semantic-KNN` is the
  paper's baseline, the items that are nearest to the history's. Nothing that a
  user has already is recommended: the nearest to a history would be itself.
  Under the prefix rule, an item that the user has still adds the unseen items
  of its prefix to the list, and is removed from the list afterwards. The lists
  are proven (see `ranking`), so that recall describes the model and not the
  number of beams.

  Returns:
    By rule and epsilon, `recall@k` for k of 10, 20 and 50, what else every
    ranking is judged by, of ten items; `reachable`, the share of the users
    whose next item the rule can find; `reachable_items`, the share of the
    unseen items that the rule can find; and `proven`, see `Ranking`.

  Raises:
    UsageError: There are no unseen items, or the model is not generative.
  """
  dataset = trained.session.inputs.dataset
  if not len(dataset.unseen):
    raise UsageError(
      'config.dataset.unseen_share is 0: set it, so that there are items that '
      'nobody bought before'
    )
  only_seen = _only_seen(trained)
  is_unseen = np.zeros(dataset.num_items, bool)
  is_unseen[dataset.unseen] = True
  examples = split(dataset, 'test')
  examples = examples.at(is_unseen[dataset.history[examples.end]])
  prefixes = trained.session.inputs.semantic_ids.prefixes
  shared = shared_prefixes(is_unseen, prefixes)
  user_items = [
    np.unique(dataset.history[start:end])
    for _, start, end in zip(*examples, strict=True)
  ]
  # The search keeps items that a user has if an unseen item shares their
  # prefix. The list is longer by the largest number of such items of any user.
  carriers = np.flatnonzero(shared & ~is_unseen)
  depth = max(CUTOFFS) + max(
    (int(np.isin(x, carriers).sum()) for x in user_items), default=0
  )
  num_beams = trained.session.config.evaluation.num_beams
  search = Search(num_beams, until_proven=True, exclude_seen=True)
  keep_carriers = dataclasses.replace(search, keep=carriers)
  rankings = {
    'prefix rule': rank(only_seen, examples, depth, keep_carriers),
    'exact scores': rank(trained, examples, _DEPTH, search),
    'Semantic-KNN': rank(
      _nearest(trained), examples, dataset.num_items, search
    ),
  }
  target = rankings['exact scores'].target
  found = {}
  for rule, ranking in rankings.items():
    items, reachable = ranking.items, np.ones(dataset.num_items)
    if rule == 'prefix rule':
      items = without(with_unseen(items, dataset.unseen, prefixes), user_items)
      reachable = shared
    for epsilon in EPSILONS:
      hits = {
        k: capped(items, is_unseen, k, epsilon) == target[:, None]
        for k in CUTOFFS
      }
      recall = {f'recall@{k}': float(hits[k].any(1).mean()) for k in CUTOFFS}
      found[f'{rule}, epsilon {epsilon}'] = {
        **ranking_metrics(hits[10]), **recall,
        'reachable': float(reachable[target].mean()),
        'reachable_items': float(reachable[is_unseen].mean()),
        'proven': ranking.proven,
      }  # fmt: skip
  return found


def with_unseen(
  items: Int[np.ndarray, 'n k'],
  unseen: Int[np.ndarray, ' u'],
  prefixes: Int[np.ndarray, 'items l'],
) -> Int[np.ndarray, 'n m']:
  """Puts, after the first item of each prefix, the unseen items that have it.

  Lists are best first; -1 stands for no item, and fills the longer lists up.
  """
  sharing = collections.defaultdict(list)
  for item in unseen.tolist():
    sharing[tuple(prefixes[item].tolist())].append(item)
  lists = []
  for row in items.tolist():
    longer: list[int] = []
    done = set()
    for item in row:
      longer.append(item)
      prefix = tuple(prefixes[item].tolist())
      if item >= 0 and prefix not in done:
        longer += sharing[prefix]
        done.add(prefix)
    lists.append(longer)
  width = max(map(len, lists), default=0)
  table = np.full((len(lists), width), -1, np.int32)
  for row, longer in zip(table, lists, strict=True):
    row[: len(longer)] = longer
  return table


def capped(
  items: Int[np.ndarray, 'n m'],
  is_unseen: Bool[np.ndarray, ' items'],
  k: int,
  epsilon: float,
) -> Int[np.ndarray, 'n k']:
  """Returns the first k items, of which at most the share `epsilon` is unseen.

  Lists are best first; -1 stands for no item. The share is rounded down to
  whole items.
  """
  # Nothing is added to 0.3 * 10 by the way a computer counts.
  most = int(epsilon * k + 1e-9)
  unseen = is_unseen[items] & (items >= 0)
  kept = (items >= 0) & (~unseen | (unseen.cumsum(1) <= most))
  # A stable sort brings what is kept to the front, in its order.
  order = np.argsort(~kept, axis=1, kind='stable')[:, :k]
  best = np.take_along_axis(np.where(kept, items, -1), order, 1)
  short = ((0, 0), (0, max(0, k - best.shape[1])))
  return np.pad(best, short, constant_values=-1)


def shared_prefixes(
  is_unseen: Bool[np.ndarray, ' items'], prefixes: Int[np.ndarray, 'items l']
) -> Bool[np.ndarray, ' items']:
  """Returns which items have a prefix that seen and unseen items share."""
  _, place = np.unique(prefixes, axis=0, return_inverse=True)
  # NumPy 2.0 returns `place` with a second axis.
  place = place.reshape(-1)
  both = np.intersect1d(place[is_unseen], place[~is_unseen])
  return np.isin(place, both)


def without(
  items: Int[np.ndarray, 'n m'], user_items: Sequence[Int[np.ndarray, ' _']]
) -> Int[np.ndarray, 'n m']:
  """Returns the lists with -1 in place of the items that each user has."""
  return np.stack(
    [
      np.where(np.isin(row, rows), -1, row)
      for row, rows in zip(items, user_items, strict=True)
    ]
  )


def _only_seen(trained: Trained) -> Trained:
  session = trained.session
  if not session.entry.is_generative:
    raise UsageError(
      f'config.model.name is {session.config.model.name!r}: unseen items are '
      'for models that generate Semantic IDs'
    )
  catalog = session.catalog.remove(session.inputs.dataset.unseen)
  return trained._replace(session=session.with_catalog(catalog))


def _nearest(trained: Trained) -> Trained:
  session = trained.session
  last = min(NUM_NEAREST_TO, session.config.model.max_history)
  nearest = session.baseline('item_knn', max_history=last)
  inputs = session.inputs._replace(embeddings=trained.embeddings)
  return Trained(dataclasses.replace(nearest, inputs=inputs), {})
