"""The content of the report sections that need the results of each user."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiger_jax.data.item_text import plain
from tiger_jax.data.splits import Examples, training_counts
from tiger_jax.evaluation.bootstrap import intervals
from tiger_jax.evaluation.entropy import CATEGORY_DEPTH, entropy
from tiger_jax.evaluation.groups import groups
from tiger_jax.evaluation.metrics import RANKING, ndcg, recall
from tiger_jax.evaluation.users import UserResults, hits_of
from tiger_jax.recommenders import registry
from tiger_jax.report import charts
from tiger_jax.report.finished_run import FinishedRun
from tiger_jax.report.paper import PAPER, SHOPS
from tiger_jax.report.sections import item_title
from tiger_jax.semantic_ids.categories import UNKNOWN, coarse_categories

_NUM_SHOPPERS = 10
_NUM_SHOWN = 5
_NUM_RANDOM = 1000
_MAX_LISTS = 20_000
# The names of the groups in words, by heading.
_GROUPS = {
  'Length of the history': {
    'history of up to 5': 'up to 5 items',
    'history of 6 to 10': '6 to 10 items',
    'history of over 10': 'over 10 items',
  },
  'Popularity of the next item': {
    'bought up to 5 times': 'bought up to 5 times',
    'bought 6 to 20 times': 'bought 6 to 20 times',
    'bought over 20 times': 'bought over 20 times',
  },
  'Memorization': {
    'memorization': 'pair seen in training',
    'generalization': 'new pair',
  },
}
_HEADLINE = RANKING.index('recall@10')
_PAPER_ROWS = ('TIGER', 'S3-Rec', 'SASRec')


def metrics(run: FinishedRun) -> dict[str, Any]:
  """Returns the table of the metrics, with confidence intervals if known."""
  results, users = run.results, run.users
  test = results['metrics']['test']
  title = registry.title(results['model'])
  entries = [(title, test, 'rank', 0)]
  if masked := results['metrics'].get('test_masked'):
    name = f'{title}, without items of the history'
    entries.append((name, masked, 'rank_masked', 1))
  baselines = results['baselines']
  for name, values in baselines.items():
    entries.append((name, values['test'], f'rank_{name}', 5))
  rows = []
  for name, values, field, color in entries:
    bounds = None
    if users is not None:
      bounds = _intervals(getattr(users, field), run.config.seed)
    rows.append(_row(name, [values.get(x) for x in RANKING], bounds, color))
  if best := results.get('best_possible'):
    values = [best.get(x) for x in RANKING]
    rows.append(_row('best possible', values, None, 3))
  shop = SHOPS.get(run.config.dataset.name)
  paper = PAPER['table1'][shop] if shop else {}
  for name in _PAPER_ROWS if shop else ():
    rows.append(_row(f'{name}, in the paper', [*paper[name]], None, 4))
  charted = [
    {
      'name': row['name'].replace(', without', ',\nwithout'),
      'value': row['values'][_HEADLINE],
      'interval': row['intervals'][_HEADLINE],
      'color': row['color'],
    }
    for row in rows
    if row['values'][_HEADLINE] is not None
  ]
  shown = ('sid_recall@10', 'invalid@10', 'invalid@20')
  return {
    'columns': RANKING,
    'rows': rows,
    'headline': rows[0],
    'recall': test['recall@10'],
    'popularity': baselines['popularity']['test']['recall@10'],
    'transitions': baselines.get('transitions', {})
    .get('test', {})
    .get('recall@10'),
    'num_users': None if users is None else len(users.user),
    'num_replicas': run.config.train.replicas,
    'is_ensemble': run.config.evaluation.ensemble
    and registry.entry(run.config.model).is_generative,
    'validation': results['metrics'].get('validation', {}).get('recall@10'),
    'best_possible': results.get('best_possible', {}).get('recall@10'),
    'others': {x.replace('@', '_'): test[x] for x in shown if x in test},
    'shop': shop,
    'figure': charts.bars('recall@10 of each row', 'recall@10', charted),
  }


def by_group(run: FinishedRun, users: UserResults) -> list[dict[str, Any]]:
  """Returns recall@10 and NDCG@10 of each group of users, by heading."""
  positions = users.ends(run.dataset)
  starts = run.dataset.offsets[:-1][users.user]
  members = groups(run.dataset, Examples(users.user, starts, positions))
  columns = [RANKING.index(x) for x in ('recall@10', 'ndcg@10')]
  blocks = []
  for heading, names in _GROUPS.items():
    rows = []
    for name, label in names.items():
      is_member = members.get(name)
      if is_member is None or not is_member.any():
        continue
      rank = users.rank[:, is_member]
      values = user_values(rank).mean(axis=0)
      bounds = _intervals(rank, run.config.seed)
      rows.append(
        {
          'name': label,
          'share': float(is_member.mean()),
          'users': int(is_member.sum()),
          'value': float(values[_HEADLINE]),
          'interval': bounds[_HEADLINE],
          'color': 0,
          'cells': [(float(values[x]), bounds[x]) for x in columns],
        }
      )
    if not rows:
      continue
    figure = charts.bars(f'{heading}: recall@10', 'recall@10', rows)
    blocks.append({'heading': heading, 'rows': rows, 'figure': figure})
  return blocks


def diversity(run: FinishedRun, users: UserResults) -> dict[str, Any]:
  """Returns how varied the recommended items are."""
  dataset = run.dataset
  rng = np.random.default_rng(run.config.seed)
  categories = coarse_categories(dataset.items, CATEGORY_DEPTH)
  # All replicas recommend nearly the same items, so one is enough.
  items = users.items[0]
  k = items.shape[1]
  result: dict[str, Any] = {'k': k}
  if set(categories) != {UNKNOWN}:
    size = min(k, dataset.num_items)
    random_items = rng.integers(dataset.num_items, size=(_NUM_RANDOM, size))
    result |= {
      'entropy': float(entropy(items[:_MAX_LISTS], categories).mean()),
      'random': float(entropy(random_items, categories).mean()),
      'num_categories': len(set(categories)),
    }
  listed = items[items >= 0]
  bought = training_counts(dataset)
  num_popular = max(1, dataset.num_items // 10)
  is_popular = np.zeros(dataset.num_items, bool)
  is_popular[np.argsort(-bought, kind='stable')[:num_popular]] = True
  return result | {
    'num_listed': len(np.unique(listed)),
    'coverage': len(np.unique(listed)) / dataset.num_items,
    'popular_share': float(is_popular[listed].mean()) if len(listed) else 0.0,
    'popular_bought': float(is_popular[users.target].mean()),
  }


def shoppers(run: FinishedRun, users: UserResults) -> list[dict[str, Any]]:
  """Returns the histories and the recommendations of ten random users."""
  rng = np.random.default_rng(run.config.seed)
  places = np.sort(rng.permutation(len(users.user))[:_NUM_SHOPPERS])
  entries = []
  for place in places:
    user = int(users.user[place])
    history = run.dataset.history_of(user)[:-1]
    target = int(users.target[place])
    listed = [int(x) for x in users.items[0, place] if x >= 0]
    entries.append(
      {
        'id': plain(run.dataset.user_ids[user])[:60],
        'earlier': max(0, len(history) - _NUM_SHOWN),
        'history': [item_title(run, x) for x in history[-_NUM_SHOWN:].tolist()],
        'next': item_title(run, target),
        'rank': int(users.rank[0, place]),
        'listed': [(item_title(run, x), x == target) for x in listed],
      }
    )
  return entries


def user_values(rank: np.ndarray) -> np.ndarray:
  """Returns each metric in `RANKING` for every user, averaged over replicas."""
  functions = {'recall': recall, 'ndcg': ndcg}
  replicas = [hits_of(x) for x in np.atleast_2d(rank)]
  columns = []
  for name in RANKING:
    metric, _, k = name.partition('@')
    values = [functions[metric](hits, int(k)) for hits in replicas]
    columns.append(np.mean(values, axis=0))
  return np.stack(columns, axis=1)


def _intervals(rank: np.ndarray, seed: int) -> list[tuple[float, float]]:
  low, high = intervals(user_values(rank), seed)
  return list(zip(low.tolist(), high.tolist(), strict=True))


def _row(
  name: str,
  values: Sequence[float | None],
  bounds: list[tuple[float, float]] | None,
  color: int,
) -> dict[str, Any]:
  known = bounds or [None] * len(values)
  return {'name': name, 'values': values, 'intervals': known, 'color': color}
