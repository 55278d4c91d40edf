"""Pictures of Semantic IDs: what their codes mean, and how good they are."""

import collections
from collections.abc import Sequence
import math
import os
import pathlib
from typing import Any
import warnings

from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter
import numpy as np

from tiger_jax.semantic_ids.ids import SemanticIds

# Most first codes that get a picture each of what comes after them.
_MAX_PANELS = 8
_MAX_CATEGORIES = 8
_MAX_NAME = 28
# Names in one line of the legend.
_MAX_LEGEND = 4
_MAX_TICKS = 40
# Paul Tol's muted colours, which colour-blind people can tell apart.
_COLOURS = (
  '#332288', '#88CCEE', '#44AA99', '#117733', '#DDCC77', '#CC6677', '#882255',
  '#AA4499',
)  # fmt: skip
_GREY = '#BBBBBB'
_LINE_COLOURS = ('#332288', '#CC6677', '#117733', '#DDCC77', '#882255')
_DPI = 130


def draw(
  ids: SemanticIds,
  measured: dict[str, Any],
  categories: Sequence[str],
  folder: str | os.PathLike[str],
) -> list[pathlib.Path]:
  """Draws what the codes mean, and how good they are, into two PNG files."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  figures = {
    'categories.png': categories_figure(ids, categories),
    'codes.png': codes_figure(ids, measured),
  }
  paths = []
  for name, figure in figures.items():
    paths.append(folder / name)
    with warnings.catch_warnings():
      # A letter that the font lacks is drawn as a box.
      warnings.filterwarnings('ignore', 'Glyph .* missing from font')
      figure.savefig(paths[-1], dpi=_DPI)
  return paths


def categories_figure(ids: SemanticIds, categories: Sequence[str]) -> Figure:
  """Draws the categories of the items of each code.

  Figure 4 of the paper, with its axes swapped: codes stand side by side, and a
  category has the same colour everywhere. As there, each of few first codes
  gets a picture of the codes that follow it. The most frequent categories get
  colours.
  """
  names, category = _most_frequent(categories)
  first = ids.codes[:, 0]
  table = _table(first, ids.level_sizes[0], category, len(names))
  used = np.flatnonzero(table.sum(axis=1))
  if len(used) <= _MAX_PANELS and ids.num_meaning_levels > 1:
    num_columns = min(len(used), 2 if len(used) <= 4 else 4)
    num_rows = math.ceil(len(used) / num_columns)
    figure = Figure(
      figsize=(13 if num_columns <= 2 else 17, 3.5 + 2 * num_rows),
      layout='constrained',
    )
    grid = figure.add_gridspec(num_rows, num_columns + 1)
    axes = figure.add_subplot(grid[:, 0])
    for i, code in enumerate(used):
      panel = figure.add_subplot(grid[i // num_columns, i % num_columns + 1])
      mine = first == code
      after = _table(
        ids.codes[mine, 1], ids.level_sizes[1], category[mine], len(names)
      )
      _draw_stacks(panel, after)
      panel.set_title(f'Items of first code {code}', fontsize=11)
      panel.set_xlabel('second code')
    _draw_stacks(axes, table)
    axes.set_title('All items', fontsize=11)
    for panel in figure.axes:
      panel.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylabel('items')
  else:
    figure = Figure(figsize=(13, 7), layout='constrained')
    above, axes = figure.subplots(2, sharex=True, height_ratios=(1, 2))
    _draw_stacks(above, table)
    above.set_ylabel('items')
    above.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _draw_stacks(axes, table, shares=True)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("share of the code's items")
  axes.set_xlabel('first code')
  figure.suptitle(
    'Categories of the items of each code (codes in use, by main category)',
    fontsize=14,
  )
  num_lines = math.ceil(len(names) / _MAX_LEGEND)
  legend = figure.legend(
    axes.patches, [''] * len(names),
    loc='outside lower center', ncols=math.ceil(len(names) / num_lines),
    frameon=False, fontsize=10,
  )  # fmt: skip
  for text, name in zip(legend.get_texts(), names, strict=True):
    # A name may hold what would be taken for a formula.
    text.set(text=name, parse_math=False)
  return figure


def codes_figure(ids: SemanticIds, measured: dict[str, Any]) -> Figure:
  """Draws what was measured of the codes."""
  figure = Figure(figsize=(14, 8), layout='constrained')
  use, histogram, unique, error, neighbours, purity = figure.subplots(2, 3).flat
  _draw_use(use, ids)
  _draw_histogram(histogram, measured['collision_histogram'])
  _draw_levels(
    unique, measured, 'Telling items apart',
    {
      'unique_prefix_rate': 'different codes per item',
      'collision_rate': 'items whose codes another has',
    },
  )  # fmt: skip
  _draw_levels(
    error, measured, 'Variance of the embeddings that the codes leave',
    {'reconstruction_error': 'variance'},
  )  # fmt: skip
  _draw_levels(
    neighbours, measured, '10 nearest neighbours with the same codes',
    {
      'neighbour_agreement': 'neighbours',
      'neighbour_agreement_by_chance': 'any two items',
    },
  )  # fmt: skip
  _draw_levels(
    purity, measured, 'Items in the main category of their codes',
    {
      'category_purity': 'categories',
      'category_purity_by_chance': 'shuffled categories',
    },
  )  # fmt: skip
  figure.suptitle(f'Semantic IDs of {measured["items"]:,} items', fontsize=14)
  return figure


def _most_frequent(
  categories: Sequence[str],
) -> tuple[list[str], Int[np.ndarray, ' items']]:
  """Names the categories that get a colour, and numbers those of the items."""
  counts = collections.Counter(categories).most_common()
  names = [name for name, _ in counts[:_MAX_CATEGORIES]]
  number = {name: i for i, name in enumerate(names)}
  category = np.fromiter(
    (number.get(name, len(names)) for name in categories),
    np.int64,
    len(categories),
  )
  others = len(counts) - len(names)
  labels = [
    name if len(name) <= _MAX_NAME else f'{name[: _MAX_NAME - 1]}\u2026'
    for name in names
  ]
  return labels + [f'{others} others'] * bool(others), category


def _table(
  codes: Int[np.ndarray, ' n'],
  num_codes: int,
  category: Int[np.ndarray, ' n'],
  num_categories: int,
) -> Int[np.ndarray, 'v categories']:
  """Counts the items of each code and category."""
  counts = np.bincount(
    codes * np.int64(num_categories) + category,
    minlength=num_codes * num_categories,
  )
  return counts.reshape(num_codes, num_categories)


def _in_blocks(
  table: Int[np.ndarray, 'v categories'],
) -> Int[np.ndarray, ' used']:
  """Orders the codes in use by their main category, the purest first."""
  used = np.flatnonzero(table.sum(axis=1))
  main = table[used].argmax(axis=1)
  purity = table[used].max(axis=1) / table[used].sum(axis=1)
  return used[np.lexsort((-purity, main))]


def _draw_stacks(
  axes: Axes, table: Int[np.ndarray, 'v categories'], shares: bool = False
) -> None:
  """Stacks the categories of each code in use, code beside code."""
  order = _in_blocks(table)
  stacks = table[order].cumsum(axis=1)
  if shares:
    stacks = stacks / stacks[:, -1:]
  named = len(order) <= _MAX_TICKS
  half = 0.42 if named else 0.5
  centres = np.arange(len(order))
  # Every other step is the gap between two codes.
  edges = np.stack([centres - half, centres + half], axis=1).ravel()
  steps = np.zeros((table.shape[1] + 1, 2 * len(order) - 1))
  steps[1:, ::2] = stacks.T
  for i, colour in enumerate([*_COLOURS, _GREY][: table.shape[1]]):
    axes.stairs(steps[i + 1], edges, baseline=steps[i], fill=True, color=colour)
  axes.set_xlim(-0.6, len(order) - 0.4)
  axes.set_xticks(centres if named else [], order if named else [])
  axes.tick_params(axis='x', length=0, labelsize=9 if len(order) < 20 else 7)
  axes.spines[['top', 'right']].set_visible(False)


def _draw_use(axes: Axes, ids: SemanticIds) -> None:
  for level in range(ids.num_meaning_levels):
    size = ids.level_sizes[level]
    counts = np.bincount(ids.codes[:, level], minlength=size)
    often = -np.sort(-counts[counts > 0]) * (size / len(ids.codes))
    x = (np.arange(len(often)) + 0.5) / size
    axes.plot(
      x, often, color=_line_colour(level), label=f'level {level + 1}',
      marker='o' if len(x) <= _MAX_TICKS else None, markersize=4,
    )  # fmt: skip
  axes.axhline(1, color='black', linestyle='--', linewidth=1, label='even use')
  axes.set_yscale('log')
  axes.yaxis.set_major_formatter('{x:g}')
  axes.yaxis.set_minor_formatter(NullFormatter())
  low, high = axes.get_ylim()
  # Room for three labels.
  axes.set_ylim(min(low, 0.08), max(high, 12))
  axes.set_xlim(0, 1)
  axes.xaxis.set_major_formatter(PercentFormatter(1))
  axes.set_xlabel('codes of the level, the most frequent first')
  axes.set_ylabel('items of the code, relative to even use')
  axes.set_title('Use of the codes', fontsize=11)
  axes.legend(frameon=False, fontsize=9)
  axes.grid(alpha=0.3)


def _line_colour(level: int) -> str:
  return _LINE_COLOURS[level % len(_LINE_COLOURS)]


def _draw_histogram(axes: Axes, histogram: dict[str, int]) -> None:
  sizes = [int(size) for size in histogram]
  axes.bar(sizes, list(histogram.values()), color=_COLOURS[0])
  axes.set_yscale('log')
  axes.yaxis.set_major_formatter('{x:,.0f}')
  axes.set_ylim(0.7, 2 * max(histogram.values()))
  axes.yaxis.set_minor_formatter(NullFormatter())
  axes.set_xlim(0.4, max(*sizes, 4) + 0.6)
  axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  axes.set_xlabel('items that have all codes of meaning in common')
  axes.set_ylabel('groups of items')
  axes.set_title('Collisions', fontsize=11)
  axes.grid(alpha=0.3, axis='y')


def _draw_levels(
  axes: Axes, measured: dict[str, Any], title: str, names: dict[str, str]
) -> None:
  """Draws shares that were measured for the first 1, 2, ... codes."""
  levels = np.arange(1, len(measured['usage']) + 1)
  for i, (name, label) in enumerate(names.items()):
    if measured[name] is None:
      axes.text(
        0.5, 0.5, 'does not apply', transform=axes.transAxes, ha='center'
      )
      break
    axes.plot(
      levels, measured[name], color=_line_colour(i), label=label,
      marker='os'[i], linestyle=('-', '--')[i],
    )  # fmt: skip
  if len(axes.lines) > 1:
    axes.legend(frameon=False, fontsize=9)
  axes.set_xticks(levels)
  axes.set_xlim(0.7, len(levels) + 0.3)
  axes.set_ylim(-0.03, max(1.03, axes.get_ylim()[1]))
  axes.yaxis.set_major_formatter(PercentFormatter(1))
  axes.set_xlabel('number of first codes')
  axes.set_title(title, fontsize=11)
  axes.grid(alpha=0.3)
