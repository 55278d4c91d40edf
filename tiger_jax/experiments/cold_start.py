"""Recommends items that are unseen in training (Figure 5)."""

import collections
from collections.abc import Sequence
import dataclasses

from jaxtyping import Bool, Int
import numpy as np

from tiger_jax.data.splits import split
from tiger_jax.errors import UsageError
from tiger_jax.evaluation.metrics import ranking_metrics
from tiger_jax.evaluation.ranking import (
  Search,
  Trained,
  rank,
  require_generative,
)

CUTOFFS = (10, 20, 50)
# Upper limits of the share of unseen items in a list.
EPSILONS = (0.1, 0.2, 0.3)
# The length of the lists of the rule `exact scores`. If a list has too many
# unseen items, `capped` replaces some of them by later items.
_DEPTH = 128
# The number of latest items whose mean vector Semantic-KNN compares to all
# items, as in configs/baselines.py:item_knn.
NUM_LATEST = 5


def measure(trained: Trained) -> dict[str, dict[str, float]]:
  """Returns the recall of four rules for test users whose target is unseen.

  - `prefix rule`: the method of the paper. The model generates the IDs of seen
    items. The unseen items with the semantic prefix of a generated item are
    inserted after this item.
  - `coarse prefix rule`: the same rule, without the last code of the semantic
    prefix. More unseen items have a prefix that a seen item has too.
  - `exact scores`: the model scores unseen items by their own IDs, like seen
    items.
  - `Semantic-KNN`: the baseline of the paper, which returns the items whose
    vectors are nearest to those of the history.

  Items of the history are excluded, because otherwise Semantic-KNN would return
  them. Under the prefix rules, items of the history are removed only after the
  unseen items with their prefixes have been inserted. The lists are proven (see
  `Search.until_proven`), so that recall does not depend on the number of beams.

  Returns:
    For each rule and epsilon: `recall@k` for k = 10, 20 and 50; the usual
    metrics of a list of ten; `reachable`, the share of users whose target the
    rule can return; `reachable_items`, the share of unseen items that the rule
    can return; and `proven`, see `Ranking`.

  Raises:
    UsageError: There are no unseen items, or the model is not generative.
  """
  dataset = trained.session.inputs.dataset
  if not len(dataset.unseen):
    raise UsageError(
      'config.dataset.unseen_share is 0, so there are no unseen items: set it '
      'to a share above 0'
    )
  only_seen = _only_seen(trained)
  is_unseen = np.zeros(dataset.num_items, bool)
  is_unseen[dataset.unseen] = True
  examples = split(dataset, 'test')
  examples = examples.at(is_unseen[dataset.history[examples.end]])
  prefixes = trained.session.inputs.semantic_ids.prefixes
  num_coarse = max(1, prefixes.shape[1] - 1)
  prefixes_of = {
    'prefix rule': prefixes,
    'coarse prefix rule': prefixes[:, :num_coarse],
  }
  user_items = [
    np.unique(dataset.history[start:end])
    for _, start, end in zip(*examples, strict=True)
  ]
  # The search must return history items that share a prefix with an unseen
  # item, because the unseen item is inserted after them. These history items
  # are removed afterwards. The lists are therefore longer by the maximum number
  # of such items in one history. Items that share a prefix also share the
  # coarse prefix, so one search serves both rules.
  is_shared = {
    rule: shared_prefixes(is_unseen, groups)
    for rule, groups in prefixes_of.items()
  }
  carriers = np.flatnonzero(is_shared['coarse prefix rule'] & ~is_unseen)
  depth = max(CUTOFFS) + max(
    (int(np.isin(x, carriers).sum()) for x in user_items), default=0
  )
  num_beams = trained.session.config.evaluation.num_beams
  search = Search(num_beams, until_proven=True, exclude_seen=True)
  keep_carriers = dataclasses.replace(search, keep=carriers)
  seen_items = rank(only_seen, examples, depth, keep_carriers)
  rankings = {
    **dict.fromkeys(prefixes_of, seen_items),
    'exact scores': rank(trained, examples, _DEPTH, search),
    'Semantic-KNN': rank(
      _nearest(trained), examples, dataset.num_items, search
    ),
  }
  target = rankings['exact scores'].target
  rows = {}
  for rule, ranking in rankings.items():
    items, reachable = ranking.items, np.ones(dataset.num_items)
    if rule in prefixes_of:
      extended = with_unseen(items, dataset.unseen, prefixes_of[rule])
      items = without(extended, user_items)
      reachable = is_shared[rule]
    for epsilon in EPSILONS:
      hits = {
        k: capped(items, is_unseen, k, epsilon) == target[:, None]
        for k in CUTOFFS
      }
      recall = {f'recall@{k}': float(hits[k].any(1).mean()) for k in CUTOFFS}
      rows[f'{rule}, epsilon {epsilon}'] = {
        **ranking_metrics(hits[10]), **recall,
        'reachable': float(reachable[target].mean()),
        'reachable_items': float(reachable[is_unseen].mean()),
        'proven': ranking.proven,
      }  # fmt: skip
  return rows


def with_unseen(
  items: Int[np.ndarray, 'n k'],
  unseen: Int[np.ndarray, ' u'],
  prefixes: Int[np.ndarray, 'items l'],
) -> Int[np.ndarray, 'n m']:
  """Inserts unseen items after the first listed item with the same prefix.

  Lists are best first. -1 stands for no item and pads shorter lists.
  """
  sharing = collections.defaultdict(list)
  for item in unseen.tolist():
    sharing[tuple(prefixes[item].tolist())].append(item)
  lists = []
  for row in items.tolist():
    extended: list[int] = []
    used_prefixes = set()
    for item in row:
      extended.append(item)
      prefix = tuple(prefixes[item].tolist())
      if item >= 0 and prefix not in used_prefixes:
        extended += sharing[prefix]
        used_prefixes.add(prefix)
    lists.append(extended)
  width = max(map(len, lists), default=0)
  table = np.full((len(lists), width), -1, np.int32)
  for row, extended in zip(table, lists, strict=True):
    row[: len(extended)] = extended
  return table


def capped(
  items: Int[np.ndarray, 'n m'],
  is_unseen: Bool[np.ndarray, ' items'],
  k: int,
  epsilon: float,
) -> Int[np.ndarray, 'n k']:
  """Returns the first k items, of which at most `epsilon * k` are unseen.

  Further unseen items are skipped. Lists are best first; -1 stands for no item.
  The number `epsilon * k` is rounded down.
  """
  # The small term corrects rounding errors, such as 0.3 * 10 < 3.
  max_unseen = int(epsilon * k + 1e-9)
  unseen = is_unseen[items] & (items >= 0)
  kept = (items >= 0) & (~unseen | (unseen.cumsum(1) <= max_unseen))
  # The stable sort moves the kept items to the front in their order.
  order = np.argsort(~kept, axis=1, kind='stable')[:, :k]
  best = np.take_along_axis(np.where(kept, items, -1), order, 1)
  padding = ((0, 0), (0, max(0, k - best.shape[1])))
  return np.pad(best, padding, constant_values=-1)


def shared_prefixes(
  is_unseen: Bool[np.ndarray, ' items'], prefixes: Int[np.ndarray, 'items l']
) -> Bool[np.ndarray, ' items']:
  """Marks items whose prefix occurs among both seen and unseen items."""
  _, code = np.unique(prefixes, axis=0, return_inverse=True)
  # NumPy 2.0 returns the inverse with a second axis.
  code = code.reshape(-1)
  shared = np.intersect1d(code[is_unseen], code[~is_unseen])
  return np.isin(code, shared)


def without(
  items: Int[np.ndarray, 'n m'], user_items: Sequence[Int[np.ndarray, ' _']]
) -> Int[np.ndarray, 'n m']:
  """Returns the lists with -1 in place of the items of each user's history."""
  return np.stack(
    [
      np.where(np.isin(row, seen), -1, row)
      for row, seen in zip(items, user_items, strict=True)
    ]
  )


def _only_seen(trained: Trained) -> Trained:
  session = trained.session
  require_generative(session)
  catalog = session.catalog.remove(session.inputs.dataset.unseen)
  return trained._replace(session=session.with_catalog(catalog))


def _nearest(trained: Trained) -> Trained:
  session = trained.session
  num_latest = min(NUM_LATEST, session.config.model.max_history)
  nearest = session.baseline('item_knn', max_history=num_latest)
  inputs = session.inputs._replace(embeddings=trained.embeddings)
  return Trained(dataclasses.replace(nearest, inputs=inputs), {})
