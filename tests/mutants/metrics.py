"""Faults of the metrics and of the evaluator."""

from tests.mutants.mutant import Mutant

_METRICS = 'tiger_jax/evaluation/metrics.py'
_EVALUATOR = 'tiger_jax/evaluation/evaluator.py'
_RETRIEVER = 'tiger_jax/retrieval/items.py'
_BY_HAND = 'tests/evaluation/test_evaluator.py'
_RANKS = 'tests/evaluation/test_metrics.py'
_TIES = 'tests/models/baselines/test_popularity.py'

MUTANTS = (
  Mutant(
    'recall ignores k',
    _METRICS,
    'np.asarray(hits[:, :k].any(1), np.float64)',
    'np.asarray(hits.any(1), np.float64)',
    _RANKS,
  ),
  Mutant(
    'recall counts one rank too few',
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
    'NDCG counts ranks from 0',
    _METRICS,
    'hits[:, :k].argmax(1) + 1',
    'hits[:, :k].argmax(1) + 0.5',
    _RANKS,
  ),
  Mutant(
    'means at every cutoff are those at the largest',
    _METRICS,
    'float(metric(hits, k).sum()) / num',
    'float(metric(hits, max(CUTOFFS)).sum()) / num',
    _RANKS,
  ),
  Mutant(
    'hits are counted on Semantic IDs, not on items',
    _EVALUATOR,
    'hits = items == target[:, None]\n',
    'hits = items == target[:, None]\n'
    '    if prefixes is not None:\n'
    '      hits = (prefixes[items] == prefixes[target][:, None]).all(-1)\n',
    _BY_HAND,
  ),
  Mutant(
    'padding rows count as users',
    _EVALUATOR,
    'num_users += len(target)',
    'num_users += len(batch.target)',
    _BY_HAND,
  ),
  Mutant(
    'targets of padding rows are searched for',
    _EVALUATOR,
    'np.asarray(batch.target) >= 0',
    'np.asarray(batch.target) >= -1',
    _BY_HAND,
  ),
  Mutant(
    'entries that are marked invalid are hits',
    _EVALUATOR,
    'np.where(found.valid, found.items, -1)[real]',
    'np.asarray(found.items)[real]',
    _BY_HAND,
  ),
  Mutant(
    'no item shares the prefix of the last item',
    _EVALUATOR,
    'recall(same_prefix & (items >= 0), k)',
    'recall(same_prefix, k)',
    _BY_HAND,
  ),
  Mutant(
    'each batch counts the same, however many users it has',
    _EVALUATOR,
    'float(value.sum())',
    'float(value.mean()) * len(real)',
    _BY_HAND,
  ),
  Mutant(
    'recall at every cutoff is that at the largest',
    _EVALUATOR,
    'recall(hits, c) for c in CUTOFFS',
    'recall(hits, k) for c in CUTOFFS',
    _BY_HAND,
  ),
  Mutant(
    'the share of invalid IDs ignores its cutoff',
    _EVALUATOR,
    '1 - generated[:, :cutoff].mean(1)',
    '1 - generated.mean(1)',
    _BY_HAND,
  ),
  Mutant(
    'items of equal scores come in the order of falling rows',
    _RETRIEVER,
    'best, items = lax.top_k(scores, most)',
    'best, items = lax.top_k(scores[:, ::-1], most)\n'
    '    items = scores.shape[1] - 1 - items',
    _TIES,
  ),
  Mutant(
    'denied items are the only ones allowed',
    _RETRIEVER,
    'return listed == jnp.asarray(lists.allow)[:, None]',
    'return listed != jnp.asarray(lists.allow)[:, None]',
    _TIES,
  ),
  Mutant(
    'padding of a list denies the last item',
    _RETRIEVER,
    'jnp.where(rows >= 0, rows, num_items)',
    'jnp.where(rows >= 0, rows, num_items - 1)',
    _TIES,
  ),
  Mutant(
    'item 0 fills a list that is too short',
    _EVALUATOR,
    'np.where(found.valid, found.items, -1)[real]',
    'np.where(found.valid, found.items, 0)[real]',
    _BY_HAND,
  ),
  Mutant(
    'users whose target is item 0 are left out',
    _EVALUATOR,
    'np.asarray(batch.target) >= 0',
    'np.asarray(batch.target) > 0',
    _BY_HAND,
  ),
  Mutant(
    'a single user counts as two',
    _METRICS,
    'num = max(1, len(hits))',
    'num = max(2, len(hits))',
    _RANKS,
  ),
)
