"""How good IDs are, before any recommender is trained on them."""

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

_NEIGHBOURS = 10
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
  """Measures the codes of meaning, level by level.

  What concerns all items is exact. Neighbours and reconstruction are measured
  on random items, always the same ones, where there are very many items.

  Returns:
    What JSON can hold. A list has an entry for each level of meaning, or for
    each number d of first codes:

    `usage`: the share of the level's codes that items have.
    `dead_codes`: the number of codes that no item has.
    `perplexity`: the exponential of the entropy of the level's codes; as large
      as the level where all are equally frequent.
    `collision_rate`: the share of items whose first d codes another item has.
    `unique_prefix_rate`: different tuples of first d codes, per item.
    `reconstruction_error`: the share of the embeddings' variance about their
      mean that is left where the first d codes stand for an item; None if the
      quantizer's codes stand for nothing, or all embeddings are the same.
    `category_purity`: the share of items that have the most frequent category
      among the items with their first d codes.
    `category_purity_by_chance`: the same after shuffling the categories; it
      tends to 1 as fewer items share their codes, whatever the codes mean.
    `neighbour_agreement`: the share of an item's 10 nearest neighbours, by
      cosine, that have its first d codes; None for a single item.
    `neighbour_agreement_by_chance`: the share of all pairs of items that have
      the same first d codes; 0 where there is no pair.

    The other entries are numbers about all items:

    `items`: how many there are.
    `level_sizes`: of all levels, that of collisions included.
    `worst_collision`: the most items that have the same codes of meaning.
    `collision_histogram`: how many tuples of codes of meaning belong to 1, 2,
      ... items; the keys are text.
    `duplicate_items`: items whose embedding another item has exactly.
    `constant_dimensions`: dimensions in which all embeddings are the same.
  """
  codes = ids.prefixes
  category = _numbered(categories)
  shuffled = np.random.default_rng(0).permutation(category)
  levels = []
  for level in range(ids.num_meaning_levels):
    group, counts = group_rows(codes[:, : level + 1])
    levels.append(
      _code_use(codes[:, level], ids.level_sizes[level])
      | {
        'collision_rate': int(counts[counts > 1].sum()) / len(codes),
        'unique_prefix_rate': len(counts) / len(codes),
        'category_purity': _purity(group, category),
        'category_purity_by_chance': _purity(group, shuffled),
        'neighbour_agreement_by_chance': _share_of_pairs(counts),
      }
    )
  sizes, numbers = np.unique(counts, return_counts=True)
  return {
    'items': len(codes),
    'level_sizes': list(ids.level_sizes),
    **{name: [level[name] for level in levels] for name in levels[0]},
    'neighbour_agreement': _neighbour_agreement(
      codes, embeddings, max_queries, max_searched
    ),
    'reconstruction_error': _reconstruction_error(
      codes, embeddings, quantizer, max_reconstructed, reconstruct_batch
    ),
    'worst_collision': int(sizes[-1]),
    'collision_histogram': {
      str(size): int(number)
      for size, number in zip(sizes, numbers, strict=True)
    },
    'duplicate_items': _duplicate_items(embeddings),
    'constant_dimensions': int(
      (embeddings.min(axis=0) == embeddings.max(axis=0)).sum()
    ),
  }


def format_table(measured: dict[str, Any]) -> str:
  """Returns lines of less than 80 characters with what `measure` found."""
  lines = [
    'level codes  used perplexity unique shared error     neighbours  '
    '     category'
  ]
  for level, perplexity in enumerate(measured['perplexity']):

    def percent(name: str, level: int = level) -> str:
      values = measured[name]
      return '-' if values is None else f'{100 * values[level]:.1f}'

    neighbours, category = (
      f'{percent(name)} ({percent(f"{name}_by_chance")})'
      for name in ('neighbour_agreement', 'category_purity')
    )
    lines.append(
      f'{level + 1:>5} {measured["level_sizes"][level]:>5} '
      f'{percent("usage"):>5} {perplexity:>10.1f} '
      f'{percent("unique_prefix_rate"):>6} {percent("collision_rate"):>6} '
      f'{percent("reconstruction_error"):>5}  {neighbours:>13}  {category:>13}'
    )
  lines += [
    '',
    'used        % of the codes of the level that items have',
    'and, for the first 1, 2, ... codes together (by chance, in brackets):',
    'unique      different codes, in % of the items',
    'shared      % of items whose codes another item has too',
    'error       % of the variance of the embeddings that the codes leave,',
    '            - if they stand for nothing',
    "neighbours  % of an item's 10 nearest neighbours that have its codes",
    'category    % of items in the main category of those with their codes',
    '',
    f'{measured["items"]:,} items, no more than '
    f'{measured["worst_collision"]:,} with the same codes of meaning',
    f'{measured["duplicate_items"]:,} items have the embedding of another; '
    f'{measured["constant_dimensions"]:,} dimensions are constant',
  ]
  return '\n'.join(lines)


def _code_use(
  codes: Int[np.ndarray, ' items'], size: int
) -> dict[str, float | int]:
  counts = np.bincount(codes, minlength=size)
  shares = counts[counts > 0] / len(codes)
  return {
    'usage': len(shares) / size,
    'dead_codes': size - len(shares),
    'perplexity': float(np.exp(-(shares * np.log(shares)).sum())),
  }


def _numbered(names: Sequence[str]) -> Int[np.ndarray, ' items']:
  numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
  return np.fromiter((numbers[name] for name in names), np.int64, len(names))


def _purity(
  group: Int[np.ndarray, ' items'], category: Int[np.ndarray, ' items']
) -> float:
  num_categories = int(category.max()) + 1
  pairs, counts = np.unique(
    group * num_categories + category, return_counts=True
  )
  # Sorted by group, so that each group is one stretch of `counts`.
  starts = np.flatnonzero(np.diff(pairs // num_categories, prepend=-1))
  return int(np.maximum.reduceat(counts, starts).sum()) / len(group)


def _share_of_pairs(counts: Int[np.ndarray, ' groups']) -> float:
  num_items = int(counts.sum())
  pairs = int((counts * (counts - 1)).sum())
  return pairs / max(num_items * (num_items - 1), 1)


def _duplicate_items(embeddings: Float[np.ndarray, 'items dim']) -> int:
  # `np.unique` of the rows themselves would copy and sort all of them. Adding
  # 0 turns -0 into 0.
  hashes = np.fromiter(
    (hash((row + 0).tobytes()) for row in embeddings), np.int64, len(embeddings)
  )
  _, counts = np.unique(hashes, return_counts=True)
  return int(counts[counts > 1].sum())


def _some_rows(
  rng: np.random.Generator, num_rows: int, at_most: int
) -> Int[np.ndarray, ' n']:
  if num_rows <= at_most:
    return np.arange(num_rows)
  return np.sort(rng.choice(num_rows, at_most, replace=False))


def _neighbour_agreement(
  codes: Int[np.ndarray, 'items l'],
  embeddings: Float[np.ndarray, 'items dim'],
  max_queries: int,
  max_searched: int,
) -> list[float] | None:
  if len(codes) < 2:
    return None
  rng = np.random.default_rng(0)
  rows = _some_rows(rng, len(codes), max_searched)
  queries = _some_rows(rng, len(rows), max_queries)
  neighbours = np.asarray(
    _nearest(
      embeddings[rows].astype(np.float32),
      queries,
      min(_NEIGHBOURS, len(rows) - 1),
    )
  )
  codes = codes[rows]
  same = codes[neighbours] == codes[queries][:, None]
  agree = np.logical_and.accumulate(same, axis=2)
  return agree.mean(axis=(0, 1)).tolist()


@functools.partial(jax.jit, static_argnums=2)
def _nearest(
  x: Float[Array, 'n dim'] | Float[np.ndarray, 'n dim'],
  queries: Int[Array, ' q'] | Int[np.ndarray, ' q'],
  num_neighbours: int,
) -> Int[Array, 'q k']:
  """Finds the rows nearest to some rows, themselves left out."""
  norms = jnp.linalg.norm(x, axis=1, keepdims=True)
  x = x / jnp.where(norms == 0, 1, norms)

  def nearest(query):
    cosines = jnp.einsum('nd,d->n', x, x[query], precision='highest')
    return lax.top_k(cosines.at[query].set(-jnp.inf), num_neighbours)[1]

  return lax.map(nearest, queries, batch_size=_QUERY_BATCH)


def _reconstruction_error(
  codes: Int[np.ndarray, 'items l'],
  embeddings: Float[np.ndarray, 'items dim'],
  quantizer: Quantizer,
  max_reconstructed: int,
  batch_size: int,
) -> list[float] | None:
  rows = _some_rows(np.random.default_rng(0), len(codes), max_reconstructed)
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
  """Returns those of the first 1, 2, ... codes, and last that of the mean."""
  reconstructed = quantizer.reconstruct(codes)
  if reconstructed is None:
    return None
  errors = jnp.sum((reconstructed - x[:, None]) ** 2, axis=-1)
  about_mean = jnp.sum((x - mean[None]) ** 2, axis=-1)
  return jnp.concatenate([errors, about_mean[:, None]], axis=1)
