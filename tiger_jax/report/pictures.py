"""Pictures of Semantic IDs: the meaning of their codes, and their quality."""

import collections
from collections.abc import Sequence
import math
import os
import pathlib
from typing import Any
import warnings

from jaxtyping import Int
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter
import numpy as np

from tiger_jax.report.svg import COLORS, CYCLE
from tiger_jax.semantic_ids.ids import SemanticIds

# If more than this many first codes are in use, second codes are not drawn.
_MAX_PANELS = 8
_MAX_TICKS = 40
# The color of all categories that have no color of their own.
OTHER_COLOR = '#BBBBBB'
_STYLE = {
  'axes.prop_cycle': CYCLE,
  'figure.titlesize': 14,
  'axes.titlesize': 11,
  'legend.frameon': False,
  'legend.fontsize': 9,
  'grid.alpha': 0.3,
}

# Maps the title of each picture to the measures that it shows for each level,
# and to their labels.
_BY_LEVEL = {
  'Items with the same first codes': {
    'unique_prefix_rate': 'different ID prefixes per item',
    'collision_rate': 'share of items that collide',
  },
  'Lost variance of the item vectors': {
    'reconstruction_error': 'share of the variance'
  },
  'Neighbors with the same first codes': {
    'neighbor_agreement': '10 nearest neighbors',
    'neighbor_agreement_by_chance': 'two random items',
  },
  'Items in the main category of their first codes': {
    'category_purity': 'real categories',
    'category_purity_by_chance': 'shuffled categories',
  },
}


def draw(
  ids: SemanticIds,
  measured: dict[str, Any],
  categories: Sequence[str],
  folder: str | os.PathLike[str],
) -> list[pathlib.Path]:
  """Draws the categories and the quality of the codes into two PNG files."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  figures = {
    folder / 'categories.png': categories_figure(ids, categories),
    folder / 'codes.png': codes_figure(ids, measured),
  }
  with warnings.catch_warnings():
    # A letter that is missing from the font is drawn as a box.
    warnings.filterwarnings('ignore', 'Glyph .* missing from font')
    for path, figure in figures.items():
      figure.savefig(path, dpi=130)
  return list(figures)


@rc_context(_STYLE)
def categories_figure(ids: SemanticIds, categories: Sequence[str]) -> Figure:
  """Draws the categories of the items of each code.

  This is Figure 4 of the paper with its axes swapped: codes are drawn side by
  side, and a category has the same color everywhere. The most frequent
  categories get colors. If there are few first codes, each gets a picture of
  its second codes, as in the paper.
  """
  names, category = most_frequent(categories)
  first = ids.codes[:, 0]
  table = category_table(first, category, len(names))
  used = np.unique(first)
  if len(used) <= _MAX_PANELS and ids.num_meaning_levels > 1:
    num_columns = min(len(used), 2 if len(used) <= 4 else 4)
    num_rows = math.ceil(len(used) / num_columns)
    size = (13 if num_columns <= 2 else 17, 3.5 + 2 * num_rows)
    figure = Figure(figsize=size, layout='constrained')
    grid = figure.add_gridspec(num_rows, num_columns + 1)
    axes = figure.add_subplot(grid[:, 0])
    for i, code in enumerate(used):
      panel = figure.add_subplot(grid[i // num_columns, i % num_columns + 1])
      is_member = first == code
      after = category_table(
        ids.codes[is_member, 1], category[is_member], len(names)
      )
      draw_stacks(panel, after)
      panel.set(title=f'Items of first code {code}', xlabel='second code')
    draw_stacks(axes, table)
    axes.set(title='All items', ylabel='items')
  else:
    figure = Figure(figsize=(13, 7), layout='constrained')
    above, axes = figure.subplots(2, sharex=True, height_ratios=(1, 2))
    draw_stacks(above, table)
    above.set_ylabel('items')
    draw_stacks(axes, table, shares=True)
    axes.set_ylabel("share of the code's items")
  axes.set_xlabel('first code')
  figure.suptitle(
    'Categories of the items of each code (only codes in use, ordered by main '
    'category)'
  )
  num_lines = math.ceil(len(names) / 4)
  legend = figure.legend(
    axes.patches, [''] * len(names),
    loc='outside lower center', ncols=math.ceil(len(names) / num_lines),
    fontsize=10,
  )  # fmt: skip
  for text, name in zip(legend.get_texts(), names, strict=True):
    # Otherwise `$` in a name would start a formula.
    text.set(text=name, parse_math=False)
  return figure


@rc_context(_STYLE)
def codes_figure(ids: SemanticIds, measured: dict[str, Any]) -> Figure:
  """Draws the results of `quality.measure`."""
  figure = Figure(figsize=(14, 8), layout='constrained')
  code_use, histogram, *by_level = figure.subplots(2, 3).flat
  draw_code_use(code_use, ids)
  _draw_histogram(histogram, measured['collision_histogram'])
  for axes, (title, names) in zip(by_level, _BY_LEVEL.items(), strict=True):
    axes.set(title=title, xlabel='length of the prefix, in codes')
    _draw_levels(axes, measured, names)
  figure.suptitle(f'Semantic IDs of {measured["items"]:,} items')
  return figure


def most_frequent(
  categories: Sequence[str],
) -> tuple[list[str], Int[np.ndarray, ' items']]:
  """Returns the labels of the colors, and the color number of each item.

  Each of the most frequent categories has its own color. The other categories
  share the last color.
  """
  counts = collections.Counter(categories).most_common()
  names = [name for name, _ in counts[: len(COLORS)]]
  number = {name: i for i, name in enumerate(names)}
  category = np.array([number.get(name, len(names)) for name in categories])
  num_others = len(counts) - len(names)
  labels = [x if len(x) <= 28 else f'{x[:27]}\u2026' for x in names]
  return labels + [f'{num_others} others'] * bool(num_others), category


def category_table(
  codes: Int[np.ndarray, ' n'],
  category: Int[np.ndarray, ' n'],
  num_categories: int,
) -> Int[np.ndarray, 'v categories']:
  """Counts the items of each code and category."""
  table = np.zeros((codes.max() + 1, num_categories), np.int64)
  np.add.at(table, (codes, category), 1)
  return table


def draw_stacks(
  axes: Axes, table: Int[np.ndarray, 'v categories'], shares: bool = False
) -> Int[np.ndarray, ' used']:
  """Draws a stack of categories for each code in use, side by side.

  Codes are ordered by their main category, then by the share of their items in
  this category.

  Returns:
    The codes, in the order of the stacks.
  """
  used = np.flatnonzero(table.sum(axis=1))
  most, total = table[used].max(axis=1), table[used].sum(axis=1)
  order = used[np.lexsort((-most / total, table[used].argmax(axis=1)))]
  stacks = table[order].cumsum(axis=1)
  named = len(order) <= _MAX_TICKS
  half = 0.42 if named else 0.5
  centers = np.arange(len(order))
  # Every second step is the gap between two codes.
  edges = np.stack([centers - half, centers + half], axis=1).ravel()
  steps = np.zeros((table.shape[1] + 1, 2 * len(order) - 1))
  steps[1:, ::2] = (stacks / stacks[:, -1:] if shares else stacks).T
  for i, color in enumerate([*COLORS, OTHER_COLOR][: table.shape[1]]):
    axes.stairs(steps[i + 1], edges, baseline=steps[i], fill=True, color=color)
  axes.set_xlim(-0.6, len(order) - 0.4)
  axes.set_xticks(centers if named else [], order if named else [])
  axes.tick_params(axis='x', length=0, labelsize=9 if len(order) < 20 else 7)
  if shares:
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
  else:
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  axes.spines[['top', 'right']].set_visible(False)
  return order


def draw_code_use(axes: Axes, ids: SemanticIds) -> None:
  """Draws the number of items of each code, most frequent codes first."""
  for level in range(ids.num_meaning_levels):
    size = ids.level_sizes[level]
    counts = np.bincount(ids.codes[:, level])
    relative = -np.sort(-counts[counts > 0]) * (size / len(ids.codes))
    x = (np.arange(len(relative)) + 0.5) / size
    axes.plot(
      x, relative, label=f'level {level + 1}',
      marker='o' if len(x) <= _MAX_TICKS else None, markersize=4,
    )  # fmt: skip
  axes.axhline(1, color='black', linestyle='--', linewidth=1, label='even use')
  axes.set_yscale('log')
  axes.yaxis.set_major_formatter('{x:g}')
  axes.yaxis.set_minor_formatter(NullFormatter())
  axes.xaxis.set_major_formatter(PercentFormatter(1))
  low, high = axes.get_ylim()
  axes.set(
    xlim=(0, 1),
    # Shows at least three tick labels.
    ylim=(min(low, 0.08), max(high, 12)),
    title='Use of the codes',
    xlabel='codes of the level, most frequent first',
    ylabel='items of a code, relative to even use',
  )
  axes.legend()
  axes.grid()


def _draw_histogram(axes: Axes, histogram: dict[str, int]) -> None:
  sizes = [int(size) for size in histogram]
  axes.bar(sizes, list(histogram.values()), color=COLORS[0])
  axes.set_yscale('log')
  axes.yaxis.set_major_formatter('{x:,.0f}')
  axes.yaxis.set_minor_formatter(NullFormatter())
  axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  axes.set(
    xlim=(0.4, max(*sizes, 4) + 0.6),
    ylim=(0.7, 2 * max(histogram.values())),
    title='Collisions',
    xlabel='items that share one semantic prefix',
    ylabel='number of prefixes',
  )
  axes.grid(axis='y')


def _draw_levels(
  axes: Axes, measured: dict[str, Any], names: dict[str, str]
) -> None:
  """Draws shares for the first 1, 2, ... codes."""
  levels = np.arange(1, len(measured['usage']) + 1)
  for i, (name, label) in enumerate(names.items()):
    if measured[name] is None:
      axes.text(
        0.5, 0.5, 'does not apply', transform=axes.transAxes, ha='center'
      )
      break
    axes.plot(
      levels, measured[name], label=label,
      marker='os'[i], linestyle=('-', '--')[i],
    )  # fmt: skip
  if len(axes.lines) > 1:
    axes.legend()
  axes.set_xticks(levels)
  axes.set_xlim(0.7, len(levels) + 0.3)
  axes.set_ylim(-0.03, max(1.03, axes.get_ylim()[1]))
  axes.yaxis.set_major_formatter(PercentFormatter(1))
  axes.grid()
