"""The one evaluator: any retriever, the whole catalogue, every user."""

from collections.abc import Callable, Iterable

import jax
from jaxtyping import Bool, Int
import numpy as np

from tiger_jax.evaluation.metrics import CUTOFFS, ndcg, recall
from tiger_jax.interfaces import Batch, Recommendations

# Of the share of generated IDs that are no item's, as the paper's Figure 6.
INVALID_CUTOFFS = (10, 20)


def evaluate(
  recommend: Callable[[Batch, int], Recommendations],
  batches: Iterable[Batch],
  prefixes: Int[np.ndarray, 'items l'] | None = None,
  generated_validity: Callable[[Batch, int], Bool[jax.Array, 'b k']]
  | None = None,
) -> dict[str, float]:
  """Measures a retriever on users with one held-out item each.

  Hits are counted on items; items of the history may be recommended and count
  as the misses they are.

  Args:
    recommend: `(batch, k)` -> the k best items.
    batches: Every user once; rows with target -1 are left out.
    prefixes: The levels of each item's Semantic ID that carry meaning. None
      for retrievers without Semantic IDs.
    generated_validity: `(batch, k)` -> which of the k best IDs of an
      unconstrained search are items. None for retrievers that generate none.

  Returns:
    Means over users: `recall@k` and `ndcg@k` for k of 5 and 10;
    `sid_recall@10`, where an item that shares the target's prefix is a hit,
    of retrievers with Semantic IDs; `invalid@k` for k of 10 and 20, the share
    of generated IDs that no item has (section 4.5 and Figure 6 of the paper),
    of those that generate them.
  """
  k = max(CUTOFFS)
  sums: dict[str, float] = {}
  num_users = 0
  for batch in batches:
    real = np.asarray(batch.target) >= 0
    target = np.asarray(batch.target)[real]
    found = jax.device_get(recommend(batch, k))
    items = np.where(found.valid, found.items, -1)[real]
    hits = items == target[:, None]
    values = {f'recall@{c}': recall(hits, c) for c in CUTOFFS}
    values |= {f'ndcg@{c}': ndcg(hits, c) for c in CUTOFFS}
    if prefixes is not None:
      same_prefix = (prefixes[items] == prefixes[target][:, None]).all(-1)
      values[f'sid_recall@{k}'] = recall(same_prefix & (items >= 0), k)
    if generated_validity:
      valid = generated_validity(batch, max(INVALID_CUTOFFS))
      generated = np.asarray(valid)[real]
      for cutoff in INVALID_CUTOFFS:
        values[f'invalid@{cutoff}'] = 1 - generated[:, :cutoff].mean(1)
    for name, value in values.items():
      sums[name] = sums.get(name, 0.0) + float(value.sum())
    num_users += len(target)
  return {name: total / num_users for name, total in sums.items()}
