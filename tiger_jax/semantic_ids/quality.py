"""Measures the quality of Semantic IDs, before a recommender is trained."""

from collections.abc import Sequence
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.semantic_ids import item_batches
from tiger_jax.semantic_ids.ids import SemanticIds, group_rows
from tiger_jax.semantic_ids.quantizer import Quantizer

_NUM_NEIGHBORS = 10
_QUERY_BATCH = 64


def measure(
  ids: SemanticIds,
  embeddings: Float[np.ndarray, 'items dim'],
  quantizer: Quantizer,
  categories: Sequence[str],
  *,
  max_queries: int = 2000,
  max_searched: int = 2**17,
  max_reconstructed: int = 2**16,
  reconstruct_batch: int = 4096,
) -> dict[str, Any]:
  """Measures the semantic prefixes of all items, level by level.

  Neighbors and reconstruction are measured on a fixed random sample if there
  are more items than the limits. Everything else is exact.

  Returns:
    A dict for JSON. Each list has one entry per semantic level. Entry d is
    about level d alone, or about the prefix of the first d codes.

    For level d:

    `usage`: the share of the codes that at least one item has.
    `dead_codes`: the number of codes that no item has.
    `perplexity`: the exponential of the entropy of the codes, at most the
      number of codes.

    For the prefix of d codes:

    `collision_rate`: the share of items that share their prefix with another.
    `unique_prefix_rate`: the number of distinct prefixes per item.
    `reconstruction_error`: the share of the variance of the embeddings that the
      reconstruction from the prefix does not explain; None if the quantizer
      does not reconstruct, or if all embeddings are equal.
    `category_purity`: the share of items in the most frequent category of their
      prefix.
    `category_purity_by_chance`: the category purity after the categories were
      shuffled; it tends to 1 as fewer items share a prefix.
    `neighbor_agreement`: the share of an item's 10 nearest neighbors by cosine
      that have its prefix; None for a single item.
    `neighbor_agreement_by_chance`: among all pairs of items, the share of
      pairs with the same prefix; 0 for a single item.

    For all items:

    `items`: the number of items.
    `level_sizes`: the number of codes at each level, including the level of
      collision codes.
    `worst_collision`: the largest number of items with one semantic prefix.
    `collision_histogram`: maps each n, as text, to the number of semantic
      prefixes that exactly n items have.
    `duplicate_items`: the number of items with the same embedding as another.
    `constant_dimensions`: the number of constant embedding dimensions.
  """
  codes = ids.prefixes
  category = _category_numbers(categories)
  shuffled = np.random.default_rng(0).permutation(category)
  levels = []
  for level in range(ids.num_meaning_levels):
    group, counts = group_rows(codes[:, : level + 1])
    levels.append(
      _code_usage(codes[:, level], ids.level_sizes[level])
      | {
        'collision_rate': int(counts[counts > 1].sum()) / len(codes),
        'unique_prefix_rate': len(counts) / len(codes),
        'category_purity': _purity(group, category),
        'category_purity_by_chance': _purity(group, shuffled),
        'neighbor_agreement_by_chance': _share_of_pairs(counts),
      }
    )
  # After the loop, `counts` belongs to the full semantic prefix.
  sizes, num_prefixes = np.unique(counts, return_counts=True)
  return {
    'items': len(codes),
    'level_sizes': list(ids.level_sizes),
    **{name: [level[name] for level in levels] for name in levels[0]},
    'neighbor_agreement': _neighbor_agreement(
      codes, embeddings, max_queries, max_searched
    ),
    'reconstruction_error': _reconstruction_error(
      codes, embeddings, quantizer, max_reconstructed, reconstruct_batch
    ),
    'worst_collision': int(sizes[-1]),
    'collision_histogram': {
      str(size): int(number)
      for size, number in zip(sizes, num_prefixes, strict=True)
    },
    'duplicate_items': _duplicate_items(embeddings),
    'constant_dimensions': int(
      (embeddings.min(axis=0) == embeddings.max(axis=0)).sum()
    ),
  }


def with_new_names(measured: dict[str, Any]) -> dict[str, Any]:
  """Returns a saved result of `measure` with the current names of its keys."""
  # Older versions wrote `neighbour_agreement`.
  return {k.replace('neighbour', 'neighbor'): x for k, x in measured.items()}


def format_table(measured: dict[str, Any]) -> str:
  """Formats the result of `measure` as lines of less than 80 characters."""
  lines = [
    'level codes  used perplexity unique shared error      neighbors  '
    '     category'
  ]
  for level, perplexity in enumerate(measured['perplexity']):

    def percent(name: str, level: int = level) -> str:
      values = measured[name]
      return '-' if values is None else f'{100 * values[level]:.1f}'

    neighbors, category = (
      f'{percent(name)} ({percent(f"{name}_by_chance")})'
      for name in ('neighbor_agreement', 'category_purity')
    )
    lines.append(
      f'{level + 1:>5} {measured["level_sizes"][level]:>5} '
      f'{percent("usage"):>5} {perplexity:>10.1f} '
      f'{percent("unique_prefix_rate"):>6} {percent("collision_rate"):>6} '
      f'{percent("reconstruction_error"):>5}  {neighbors:>13}  {category:>13}'
    )
  lines += [
    '',
    'used        % of the codes of the level that are in use',
    'For the prefix of the first 1, 2, ... codes (chance level in brackets):',
    'unique      number of distinct prefixes, in % of the number of items',
    'shared      % of items that share their prefix with another item',
    'error       % of the variance of the embeddings that is not explained,',
    '            "-" if the codes represent no embeddings',
    "neighbors   % of an item's 10 nearest neighbors that have its prefix",
    'category    % of items in the most frequent category of their prefix',
    '',
    f'{measured["items"]:,} items, at most '
    f'{measured["worst_collision"]:,} with the same semantic prefix',
    f'{measured["duplicate_items"]:,} items share an embedding with another; '
    f'{measured["constant_dimensions"]:,} dimensions are constant',
  ]
  return '\n'.join(lines)


def _code_usage(
  codes: Int[np.ndarray, ' items'], size: int
) -> dict[str, float | int]:
  counts = np.bincount(codes, minlength=size)
  shares = counts[counts > 0] / len(codes)
  return {
    'usage': len(shares) / size,
    'dead_codes': size - len(shares),
    'perplexity': float(np.exp(-(shares * np.log(shares)).sum())),
  }


def _category_numbers(names: Sequence[str]) -> Int[np.ndarray, ' items']:
  numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
  return np.fromiter((numbers[name] for name in names), np.int64, len(names))


def _purity(
  group: Int[np.ndarray, ' items'], category: Int[np.ndarray, ' items']
) -> float:
  num_categories = int(category.max()) + 1
  pairs, counts = np.unique(
    group * num_categories + category, return_counts=True
  )
  # `pairs` is sorted by group, so each group is one slice of `counts`.
  starts = np.flatnonzero(np.diff(pairs // num_categories, prepend=-1))
  return int(np.maximum.reduceat(counts, starts).sum()) / len(group)


def _share_of_pairs(counts: Int[np.ndarray, ' groups']) -> float:
  num_items = int(counts.sum())
  pairs = int((counts * (counts - 1)).sum())
  return pairs / max(num_items * (num_items - 1), 1)


def _duplicate_items(embeddings: Float[np.ndarray, 'items dim']) -> int:
  # Hash the rows, because `np.unique` would copy and sort them. Adding 0 turns
  # -0 into 0.
  hashes = np.fromiter(
    (hash((row + 0).tobytes()) for row in embeddings), np.int64, len(embeddings)
  )
  _, counts = np.unique(hashes, return_counts=True)
  return int(counts[counts > 1].sum())


def _sample_rows(
  rng: np.random.Generator, num_rows: int, at_most: int
) -> Int[np.ndarray, ' n']:
  if num_rows <= at_most:
    return np.arange(num_rows)
  return np.sort(rng.choice(num_rows, at_most, replace=False))


def _neighbor_agreement(
  codes: Int[np.ndarray, 'items l'],
  embeddings: Float[np.ndarray, 'items dim'],
  max_queries: int,
  max_searched: int,
) -> list[float] | None:
  if len(codes) < 2:
    return None
  rng = np.random.default_rng(0)
  rows = _sample_rows(rng, len(codes), max_searched)
  queries = _sample_rows(rng, len(rows), max_queries)
  neighbors = np.asarray(
    _nearest(
      embeddings[rows].astype(np.float32),
      queries,
      min(_NUM_NEIGHBORS, len(rows) - 1),
    )
  )
  codes = codes[rows]
  same_code = codes[neighbors] == codes[queries][:, None]
  same_prefix = np.logical_and.accumulate(same_code, axis=2)
  return same_prefix.mean(axis=(0, 1)).tolist()


@functools.partial(jax.jit, static_argnums=2)
def _nearest(
  x: Float[Array, 'n dim'] | Float[np.ndarray, 'n dim'],
  queries: Int[Array, ' q'] | Int[np.ndarray, ' q'],
  num_neighbors: int,
) -> Int[Array, 'q k']:
  """Returns the other rows that are nearest to each query row by cosine."""
  norms = jnp.linalg.norm(x, axis=1, keepdims=True)
  x = x / jnp.where(norms == 0, 1, norms)

  def nearest(query):
    cosines = jnp.einsum('nd,d->n', x, x[query], precision='highest')
    return lax.top_k(cosines.at[query].set(-jnp.inf), num_neighbors)[1]

  return lax.map(nearest, queries, batch_size=_QUERY_BATCH)


def _reconstruction_error(
  codes: Int[np.ndarray, 'items l'],
  embeddings: Float[np.ndarray, 'items dim'],
  quantizer: Quantizer,
  max_reconstructed: int,
  batch_size: int,
) -> list[float] | None:
  rows = _sample_rows(np.random.default_rng(0), len(codes), max_reconstructed)
  codes = codes[rows]
  x = embeddings[rows].astype(np.float32)
  mean, _ = item_batches.statistics(x)
  size = min(batch_size, len(rows))
  total = np.zeros(codes.shape[1] + 1)
  for start in range(0, len(rows), size):
    batch = slice(start, start + size)
    num_rows = len(rows[batch])
    padding = ((0, size - num_rows), (0, 0))
    errors = _squared_errors(
      quantizer, np.pad(codes[batch], padding), np.pad(x[batch], padding), mean
    )
    if errors is None:
      return None
    total += np.asarray(errors)[:num_rows].sum(axis=0, dtype=np.float64)
  return (total[:-1] / total[-1]).tolist() if total[-1] else None


@jax.jit
def _squared_errors(quantizer, codes, x, mean):
  """Returns the squared error of each prefix, followed by that of the mean."""
  reconstructed = quantizer.reconstruct(codes)
  if reconstructed is None:
    return None
  errors = jnp.sum((reconstructed - x[:, None]) ** 2, axis=-1)
  error_of_mean = jnp.sum((x - mean[None]) ** 2, axis=-1)
  return jnp.concatenate([errors, error_of_mean[:, None]], axis=1)
