"""Pictures of Semantic IDs: what their codes mean, and how good they are."""

import collections
from collections.abc import Sequence
import math
import os
import pathlib
from typing import Any
import warnings

from cycler import cycler
from jaxtyping import Int
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter
import numpy as np

from tiger_jax.semantic_ids.ids import SemanticIds

# Most first codes that get a picture each of what comes after them.
_MAX_PANELS = 8
_MAX_TICKS = 40
# Paul Tol's muted colours, which colour-blind people can tell apart.
_COLOURS = (
  '#332288', '#88CCEE', '#44AA99', '#117733', '#DDCC77', '#CC6677', '#882255',
  '#AA4499',
)  # fmt: skip
_STYLE = {
  'axes.prop_cycle': cycler(
    color=['#332288', '#CC6677', '#117733', '#DDCC77', '#882255']
  ),
  'figure.titlesize': 14,
  'axes.titlesize': 11,
  'legend.frameon': False,
  'legend.fontsize': 9,
  'grid.alpha': 0.3,
}

# By title, the measures by level that one picture shows, with their labels.
_BY_LEVEL = {
  'Telling items apart': {
    'unique_prefix_rate': 'different codes per item',
    'collision_rate': 'items whose codes another has',
  },
  'Variance of the embeddings that the codes leave': {
    'reconstruction_error': 'variance'
  },
  '10 nearest neighbours with the same codes': {
    'neighbour_agreement': 'neighbours',
    'neighbour_agreement_by_chance': 'any two items',
  },
  'Items in the main category of their codes': {
    'category_purity': 'categories',
    'category_purity_by_chance': 'shuffled categories',
  },
}


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
    folder / 'categories.png': categories_figure(ids, categories),
    folder / 'codes.png': codes_figure(ids, measured),
  }
  with warnings.catch_warnings():
    # A letter that the font lacks is drawn as a box.
    warnings.filterwarnings('ignore', 'Glyph .* missing from font')
    for path, figure in figures.items():
      figure.savefig(path, dpi=130)
  return list(figures)


@rc_context(_STYLE)
def categories_figure(ids: SemanticIds, categories: Sequence[str]) -> Figure:
  """Draws the categories of the items of each code.

  Figure 4 of the paper, with its axes swapped: codes stand side by side, and a
  category has the same colour everywhere. As there, each of few first codes
  gets a picture of the codes that follow it. The most frequent categories get
  colours.
  """
  names, category = _most_frequent(categories)
  first = ids.codes[:, 0]
  table = _table(first, category, len(names))
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
      mine = first == code
      after = _table(ids.codes[mine, 1], category[mine], len(names))
      _draw_stacks(panel, after)
      panel.set(title=f'Items of first code {code}', xlabel='second code')
    _draw_stacks(axes, table)
    axes.set(title='All items', ylabel='items')
  else:
    figure = Figure(figsize=(13, 7), layout='constrained')
    above, axes = figure.subplots(2, sharex=True, height_ratios=(1, 2))
    _draw_stacks(above, table)
    above.set_ylabel('items')
    _draw_stacks(axes, table, shares=True)
    axes.set_ylabel("share of the code's items")
  axes.set_xlabel('first code')
  figure.suptitle(
    'Categories of the items of each code (codes in use, by main category)'
  )
  num_lines = math.ceil(len(names) / 4)
  legend = figure.legend(
    axes.patches, [''] * len(names),
    loc='outside lower center', ncols=math.ceil(len(names) / num_lines),
    fontsize=10,
  )  # fmt: skip
  for text, name in zip(legend.get_texts(), names, strict=True):
    # A name may hold what would be taken for a formula.
    text.set(text=name, parse_math=False)
  return figure


@rc_context(_STYLE)
def codes_figure(ids: SemanticIds, measured: dict[str, Any]) -> Figure:
  """Draws what `quality.measure` measured of the codes."""
  figure = Figure(figsize=(14, 8), layout='constrained')
  use, histogram, *by_level = figure.subplots(2, 3).flat
  _draw_use(use, ids)
  _draw_histogram(histogram, measured['collision_histogram'])
  for axes, (title, names) in zip(by_level, _BY_LEVEL.items(), strict=True):
    axes.set(title=title, xlabel='number of first codes')
    _draw_levels(axes, measured, names)
  figure.suptitle(f'Semantic IDs of {measured["items"]:,} items')
  return figure


def _most_frequent(
  categories: Sequence[str],
) -> tuple[list[str], Int[np.ndarray, ' items']]:
  """Names the categories that get a colour, and numbers those of the items."""
  counts = collections.Counter(categories).most_common()
  names = [name for name, _ in counts[: len(_COLOURS)]]
  number = {name: i for i, name in enumerate(names)}
  category = np.array([number.get(name, len(names)) for name in categories])
  others = len(counts) - len(names)
  labels = [x if len(x) <= 28 else f'{x[:27]}\u2026' for x in names]
  return labels + [f'{others} others'] * bool(others), category


def _table(
  codes: Int[np.ndarray, ' n'],
  category: Int[np.ndarray, ' n'],
  num_categories: int,
) -> Int[np.ndarray, 'v categories']:
  """Counts the items of each code and category."""
  table = np.zeros((codes.max() + 1, num_categories), np.int64)
  np.add.at(table, (codes, category), 1)
  return table


def _draw_stacks(
  axes: Axes, table: Int[np.ndarray, 'v categories'], shares: bool = False
) -> None:
  """Stacks the categories of each code in use, code beside code.

  Codes are ordered by their main category, the purest first.
  """
  used = np.flatnonzero(table.sum(axis=1))
  most, total = table[used].max(axis=1), table[used].sum(axis=1)
  order = used[np.lexsort((-most / total, table[used].argmax(axis=1)))]
  stacks = table[order].cumsum(axis=1)
  named = len(order) <= _MAX_TICKS
  half = 0.42 if named else 0.5
  centres = np.arange(len(order))
  # Every other step is the gap between two codes.
  edges = np.stack([centres - half, centres + half], axis=1).ravel()
  steps = np.zeros((table.shape[1] + 1, 2 * len(order) - 1))
  steps[1:, ::2] = (stacks / stacks[:, -1:] if shares else stacks).T
  for i, colour in enumerate([*_COLOURS, '#BBBBBB'][: table.shape[1]]):
    axes.stairs(steps[i + 1], edges, baseline=steps[i], fill=True, color=colour)
  axes.set_xlim(-0.6, len(order) - 0.4)
  axes.set_xticks(centres if named else [], order if named else [])
  axes.tick_params(axis='x', length=0, labelsize=9 if len(order) < 20 else 7)
  if shares:
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
  else:
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  axes.spines[['top', 'right']].set_visible(False)


def _draw_use(axes: Axes, ids: SemanticIds) -> None:
  for level in range(ids.num_meaning_levels):
    size = ids.level_sizes[level]
    counts = np.bincount(ids.codes[:, level])
    often = -np.sort(-counts[counts > 0]) * (size / len(ids.codes))
    x = (np.arange(len(often)) + 0.5) / size
    axes.plot(
      x, often, label=f'level {level + 1}',
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
    # Room for three labels.
    ylim=(min(low, 0.08), max(high, 12)),
    title='Use of the codes',
    xlabel='codes of the level, the most frequent first',
    ylabel='items of the code, relative to even use',
  )
  axes.legend()
  axes.grid()


def _draw_histogram(axes: Axes, histogram: dict[str, int]) -> None:
  sizes = [int(size) for size in histogram]
  axes.bar(sizes, list(histogram.values()), color=_COLOURS[0])
  axes.set_yscale('log')
  axes.yaxis.set_major_formatter('{x:,.0f}')
  axes.yaxis.set_minor_formatter(NullFormatter())
  axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  axes.set(
    xlim=(0.4, max(*sizes, 4) + 0.6),
    ylim=(0.7, 2 * max(histogram.values())),
    title='Collisions',
    xlabel='items that have all codes of meaning in common',
    ylabel='groups of items',
  )
  axes.grid(axis='y')


def _draw_levels(
  axes: Axes, measured: dict[str, Any], names: dict[str, str]
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
