"""Times changes of a catalog, and two ways to select the best candidates."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from benchmarks import catalogs, masks, measuring
from tiger_jax.catalog.catalog import Catalog

_NUM_ITEMS = 10**6
_NUM_CHANGES = 1000


def measure(
  shapes: Sequence[tuple[int, int]],
  num_rounds: int,
  record: Callable[[dict[str, Any]], None],
) -> str:
  """Times the addition and the removal of 1,000 items.

  Args:
    shapes: Pairs of the number of codes per level and the number of levels.
    num_rounds: The number of timed rounds.
    record: A function that stores a measurement.

  Returns:
    A Markdown table.
  """
  rows = []
  for num_codes, num_levels in shapes:
    for skew in (False, True):
      shape = masks.Shape(num_codes, num_levels, _NUM_ITEMS, skew)
      spare = _NUM_CHANGES * (num_rounds + 1)
      codes = catalogs.draw(
        _NUM_ITEMS + spare, num_codes, num_levels, skew, seed=0
      )
      codes = np.random.default_rng(0).permutation(codes)
      catalog = Catalog.from_codes(codes[:-spare], (num_codes,) * num_levels)
      logits = shape.logits(1, 10)
      masks.search(catalog, logits, 10)
      compiled = masks.search._cache_size()
      seconds = []
      for i in range(num_rounds + 1):
        start = len(codes) - spare + i * _NUM_CHANGES
        new = codes[start : start + _NUM_CHANGES]
        removed_rows = np.arange(i * _NUM_CHANGES, (i + 1) * _NUM_CHANGES)
        catalog, elapsed = _change(catalog, new, removed_rows)
        seconds.append(elapsed)
        beams = masks.search(catalog, logits, 10)
        if not catalog.contains(np.asarray(beams.codes[0])).all():
          raise measuring.Mismatch('a search returned a removed item')
      programs = masks.search._cache_size() - compiled
      total = 1000 * np.array(seconds[1:]).sum(1)
      record({
        'section': 'updates', 'what': shape.label,
        'ms': measuring.percentiles(total), 'compiled': programs,
      })  # fmt: skip
      added, removed = 1000 * np.median(seconds[1:], axis=0)
      rows.append([
        shape.label, measuring.spread(total, ends=10), f'{added:.1f}',
        f'{removed:.1f}', programs,
      ])  # fmt: skip
  header = [
    '', 'both changes, ms', 'adding, ms', 'removing, ms', 'programs compiled',
  ]  # fmt: skip
  return measuring.table(header, rows)


def _change(
  catalog: Catalog, new: np.ndarray, removed_rows: np.ndarray
) -> tuple[Catalog, list[float]]:
  """Returns the changed catalog, and the seconds of each change."""
  changed = [catalog]

  def add(i: int) -> None:
    del i
    changed.append(jax.block_until_ready(changed[-1].add(new)))

  def remove(i: int) -> None:
    del i
    changed.append(jax.block_until_ready(changed[-1].remove(removed_rows)))

  # One round of `add`, then one round of `remove`.
  seconds = [
    float(measuring.in_turns({'': change}, 1)[''][0])
    for change in (add, remove)
  ]
  return changed[-1], seconds


def measure_top_k(
  num_rounds: int, record: Callable[[dict[str, Any]], None]
) -> str:
  """Compares a top k over all candidates with a top k in two stages.

  The first stage selects the top k of each beam. The second stage selects the
  top k of these.

  Args:
    num_rounds: The number of timed rounds.
    record: A function that stores a measurement.

  Returns:
    A Markdown table.
  """
  rows = []
  for batch_size, num_beams in ((1, 10), (2, 70), (32, 20), (16, 200)):
    for num_codes in (256, 2048):
      (x,) = catalogs.logits(batch_size, num_beams, num_codes, 2, seed=0)[1:]
      candidates = jnp.asarray(x)
      sides = {
        'flat': lambda x=candidates, m=num_beams: _flat(x, m),
        'two-stage': lambda x=candidates, m=num_beams: _two_stage(x, m),
      }
      selected = [np.asarray(side()[1]) for side in sides.values()]
      if not np.array_equal(*selected):
        raise measuring.Mismatch('flat and two-stage top k')
      seconds = measuring.in_turns(
        measuring.blocking(sides), num_rounds, num_warm=2
      )
      ratio = seconds['two-stage'] / seconds['flat']
      label = f'{batch_size}x{num_beams}x{num_codes}'
      record({
        'section': 'top_k', 'what': label, 'ratio': measuring.percentiles(ratio)
      })  # fmt: skip
      milliseconds = 1000 * np.median(seconds['flat'])
      rows.append(
        [label, f'{milliseconds:.2f}', measuring.spread(ratio, ends=10)]
      )
  return measuring.table(['', 'flat, ms', 'two-stage / flat'], rows)


@jax.jit(static_argnums=1)
def _flat(x: jax.Array, k: int) -> list[jax.Array]:
  return lax.top_k(x.reshape(len(x), -1), k)


@jax.jit(static_argnums=1)
def _two_stage(x: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
  best, code = lax.top_k(x, min(k, x.shape[2]))
  scores, selected = lax.top_k(best.reshape(len(x), -1), k)
  index = code + x.shape[2] * jnp.arange(x.shape[1])[None, :, None]
  return scores, jnp.take_along_axis(index.reshape(len(x), -1), selected, 1)
