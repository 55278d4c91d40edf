"""Faults of the metrics and of the evaluation loop."""

from tests.mutants.mutant import Mutant

_METRICS = 'tiger_jax/evaluation/metrics.py'
_RANKING = 'tiger_jax/evaluation/ranking.py'
_RETRIEVER = 'tiger_jax/retrieval/items.py'
_BY_HAND = (
  'tests/evaluation/test_measure.py::test_metrics_equal_values_worked_by_hand'
)
_RANKS = 'tests/evaluation/test_metrics.py'
_TIES = 'tests/models/baselines/test_popularity.py'

MUTANTS = (
  Mutant(
    'recall at k reads all ranks',
    _METRICS,
    'np.asarray(hits[:, :k].any(1), np.float64)',
    'np.asarray(hits.any(1), np.float64)',
    _RANKS,
  ),
  Mutant(
    'recall at k reads only k - 1 ranks',
    _METRICS,
    'np.asarray(hits[:, :k].any(1), np.float64)',
    'np.asarray(hits[:, : k - 1].any(1), np.float64)',
    _RANKS,
  ),
  Mutant(
    'NDCG discounts by the natural logarithm',
    _METRICS,
    'np.log2(1 + rank)',
    'np.log(1 + rank)',
    _RANKS,
  ),
  Mutant(
    'NDCG counts ranks from 0.5 instead of 1',
    _METRICS,
    'hits[:, :k].argmax(1) + 1',
    'hits[:, :k].argmax(1) + 0.5',
    _RANKS,
  ),
  Mutant(
    'all metrics use the largest cutoff',
    _METRICS,
    'float(metric(hits, k).sum()) / num',
    'float(metric(hits, max(CUTOFFS)).sum()) / num',
    _RANKS,
  ),
  Mutant(
    'hits are counted on Semantic IDs, not on items',
    'tiger_jax/evaluation/measure.py',
    'metrics.ranking_metrics(ranking.hits)\n  prefixes',
    'metrics.ranking_metrics(\n'
    '    metrics.prefix_hits(\n'
    '      ranking.items, ranking.target, trained.session.inputs.prefixes\n'
    '    )\n'
    '  )\n  prefixes',
    _BY_HAND,
  ),
  Mutant(
    'padding rows count as users',
    _RANKING,
    'is_user = np.asarray(batch.target) >= 0',
    'is_user = np.asarray(batch.target) >= -1',
    _BY_HAND,
  ),
  Mutant(
    'an invalid entry has the prefix of the last item',
    'tiger_jax/evaluation/metrics.py',
    'return same & (items >= 0)',
    'return same',
    'tests/evaluation/test_metrics.py::'
    'test_prefix_hits_equal_values_worked_by_hand',
  ),
  Mutant(
    'all metrics of an evaluation use the largest cutoff',
    'tiger_jax/evaluation/metrics.py',
    'float(metric(hits, k).sum())',
    'float(metric(hits, max(CUTOFFS)).sum())',
    _BY_HAND,
  ),
  Mutant(
    'the share of invalid IDs ignores its cutoff',
    'tiger_jax/evaluation/metrics.py',
    '(generated[:, :k] < 0)',
    '(generated < 0)',
    'tests/evaluation/test_metrics.py::'
    'test_invalid_shares_equal_values_worked_by_hand',
  ),
  Mutant(
    'items with equal scores are in descending order of their rows',
    _RETRIEVER,
    'best, items = lax.top_k(scores, num_best)',
    'best, items = lax.top_k(scores[:, ::-1], num_best)\n'
    '    items = scores.shape[1] - 1 - items',
    _TIES,
  ),
  Mutant(
    'allowed and denied items are swapped',
    _RETRIEVER,
    'return listed == jnp.asarray(lists.allow)[:, None]',
    'return listed != jnp.asarray(lists.allow)[:, None]',
    _TIES,
  ),
  Mutant(
    'the padding of a list denies the last item',
    _RETRIEVER,
    'jnp.where(rows >= 0, rows, num_items)',
    'jnp.where(rows >= 0, rows, num_items - 1)',
    _TIES,
  ),
  Mutant(
    'users whose target is item 0 are excluded',
    _RANKING,
    'is_user = np.asarray(batch.target) >= 0',
    'is_user = np.asarray(batch.target) > 0',
    _BY_HAND,
  ),
  Mutant(
    'the metrics of a single user are divided by two',
    _METRICS,
    'num = max(1, len(hits))',
    'num = max(2, len(hits))',
    _RANKS,
  ),
  Mutant(
    'a ranking has the users in the order of the batches',
    _RANKING,
    "order = np.argsort(columns[0], kind='stable')",
    'order = np.arange(len(columns[0]))',
    'tests/evaluation/test_ranking.py',
  ),
  Mutant(
    'entries that are marked invalid can be hits',
    _RANKING,
    'np.where(best.valid, best.items, -1)',
    'best.items',
    _BY_HAND,
  ),
  Mutant(
    'the columns of a ranking are not sorted by user',
    _RANKING,
    'return Ranking(*(x[order] for x in columns))',
    'return Ranking(*columns)',
    'tests/evaluation/test_ranking.py',
  ),
  Mutant(
    'a saved rank counts from 0',
    'tiger_jax/evaluation/users.py',
    'hits.argmax(1) + 1, 0)',
    'hits.argmax(1), 0)',
    'tests/evaluation/test_users.py::test_ranks_equal_values_worked_by_hand',
  ),
  Mutant(
    'each tail of a confidence interval has the probability of both tails',
    'tiger_jax/evaluation/bootstrap.py',
    'tail = (1 - level) / 2',
    'tail = 1 - level',
    'tests/evaluation/test_bootstrap.py',
  ),
)
