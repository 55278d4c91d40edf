"""The figures of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Int
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
import numpy as np

from tiger_jax.report import pictures
from tiger_jax.report.svg import COLORS, STYLE, add_tips, to_svg
from tiger_jax.semantic_ids.ids import SemanticIds

# In inches. Text stays readable on a phone, which shrinks the figure to 360
# pixels.
_SIZE = (4.6, 2.8)
_MAX_LENGTH = 40
_MAX_POINTS = 200
_MAX_TIPS = 1500


@rc_context(STYLE)
def history_lengths(lengths: Int[np.ndarray, ' users']) -> Markup:
  """Draws how many users have a history of each length."""
  longest = int(min(lengths.max(), _MAX_LENGTH))
  counts = np.bincount(np.minimum(lengths, longest), minlength=longest + 1)
  first = int(lengths.min())
  x = np.arange(first, longest + 1)
  figure = Figure(figsize=_SIZE, layout='constrained')
  axes = figure.subplots()
  axes.bar(x, counts[first:], width=0.85, color=COLORS[0])
  is_cut = lengths.max() > longest
  label = 'items in the history'
  if is_cut:
    label += f' (the last bar: {longest} or more)'
  axes.set(xlabel=label, ylabel='users', xlim=(first - 0.6, longest + 0.6))
  axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  axes.yaxis.set_major_formatter('{x:,.0f}')
  axes.grid(axis='y')
  texts = [
    f'{"at least " if is_cut and n == longest else ""}{n} items: '
    f'{counts[n]:,} users'
    for n in x
  ]
  add_tips(axes, [*(x - 0.5), longest + 0.5], texts)
  return to_svg(figure, 'Number of users by length of the history')


@rc_context(STYLE)
def level_shares(
  title: str, label: str, lines: Mapping[str, Sequence[float]]
) -> Markup:
  """Draws shares of items by the length of the prefix, 1, 2, ... codes."""
  figure = Figure(figsize=_SIZE, layout='constrained')
  axes = figure.subplots()
  num_levels = len(next(iter(lines.values())))
  levels = np.arange(1, num_levels + 1)
  for i, (name, values) in enumerate(lines.items()):
    axes.plot(
      levels, values, label=name, color=COLORS[(0, 5)[i]],
      marker='os'[i], linestyle=('-', '--')[i], clip_on=False,
    )  # fmt: skip
  largest = max(max(values) for values in lines.values())
  axes.set(
    title=title, xlabel='length of the prefix, in codes', ylabel=label,
    xlim=(0.8, num_levels + 0.2), ylim=(0, max(1.0, largest)), xticks=levels,
  )  # fmt: skip
  axes.yaxis.set_major_formatter(PercentFormatter(1))
  axes.grid()
  if len(lines) > 1:
    figure.legend(loc='outside lower center', ncols=len(lines))
  texts = [
    f'first {n} {"code" if n == 1 else "codes"}: '
    + '; '.join(f'{name} {values[n - 1]:.1%}' for name, values in lines.items())
    for n in range(1, num_levels + 1)
  ]
  add_tips(axes, np.arange(num_levels + 1) + 0.5, texts)
  return to_svg(figure, f'{title}, by length of the prefix')


@rc_context(STYLE)
def code_use(ids: SemanticIds) -> Markup:
  """Draws how often each code of each level is used."""
  figure = Figure(figsize=_SIZE, layout='constrained')
  axes = figure.subplots()
  pictures.draw_code_use(axes, ids)
  axes.set_title('How evenly the codes are used')
  return to_svg(figure, 'How evenly the codes of each level are used')


@rc_context(STYLE)
def categories(
  ids: SemanticIds, names: Sequence[str]
) -> tuple[Markup, list[tuple[str, str]]]:
  """Draws the categories of the items of each first code (Figure 4).

  Returns:
    The figure, and the color and the name of every category.
  """
  labels, category = pictures.most_frequent(names)
  table = pictures.category_table(ids.codes[:, 0], category, len(labels))
  figure = Figure(figsize=_SIZE, layout='constrained')
  axes = figure.subplots()
  order = pictures.draw_stacks(axes, table, shares=True)
  axes.set(xlabel='first code', ylabel="share of the code's items")
  if len(order) > 20:
    axes.set_xticks([])
    axes.set_xlabel('first codes in use, by main category')
  if len(order) <= _MAX_TIPS:
    edges = np.arange(len(order) + 1) - 0.5
    add_tips(
      axes, edges, [_code_text(x, table[x], labels) for x in order.tolist()]
    )
  colors = [*COLORS, pictures.OTHER_COLOR]
  svg = to_svg(figure, 'Categories of the items of each first code')
  return svg, list(zip(colors, labels, strict=False))


def _code_text(
  code: int, counts: Int[np.ndarray, ' categories'], labels: Sequence[str]
) -> str:
  total = int(counts.sum())
  largest = [x for x in np.argsort(-counts, kind='stable')[:3] if counts[x]]
  parts = [f'{labels[x]} {counts[x] / total:.0%}' for x in largest]
  return f'first code {code}, {total:,} items: {", ".join(parts)}'


@rc_context(STYLE)
def curve(
  title: str, label: str, lines: Mapping[str, Sequence[tuple[int, float]]]
) -> Markup:
  """Draws values by training step.

  Args:
    title: The title.
    label: The label of the vertical axis.
    lines: The steps and the values of each line.
  """
  figure = Figure(figsize=_SIZE, layout='constrained')
  axes = figure.subplots()
  for i, (name, points) in enumerate(lines.items()):
    axes.plot(
      *zip(*points, strict=True), label=name, color=COLORS[(0, 5, 3)[i]],
      marker='osD'[i] if len(points) <= 30 else None, markersize=4,
      linestyle=('-', '--', ':')[i],
    )  # fmt: skip
  axes.set(title=title, xlabel='training step', ylabel=label)
  axes.xaxis.set_major_formatter('{x:,.0f}')
  axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
  axes.grid()
  if len(lines) > 1:
    figure.legend(loc='outside lower center', ncols=len(lines))
  first = next(iter(lines.values()))
  picked = first[:: -(-len(first) // _MAX_POINTS)]
  values = {name: dict(points) for name, points in lines.items()}
  texts = [
    f'step {step:,}: '
    + ', '.join(
      f'{name} {values[name][step]:.4f}'
      for name in lines
      if step in values[name]
    )
    for step, _ in picked
  ]
  steps = np.array([step for step, _ in picked], float)
  middles = (steps[1:] + steps[:-1]) / 2
  left, right = axes.get_xlim()
  add_tips(axes, [left, *middles, right], texts)
  return to_svg(figure, f'{title}, by training step')


@rc_context(STYLE)
def bars(title: str, label: str, rows: Sequence[dict[str, Any]]) -> Markup:
  """Draws a bar for each row, with its confidence interval if it has one.

  Args:
    title: A description of the figure for screen readers.
    label: The label of the horizontal axis.
    rows: Dicts with a `name`, a `value`, an `interval` (low, high) or None, and
      a `color`, an index into `COLORS`.
  """
  height = 0.7 + 0.3 * len(rows)
  figure = Figure(figsize=(_SIZE[0], height), layout='constrained')
  axes = figure.subplots()
  y = np.arange(len(rows))
  for at, row in zip(y, rows, strict=True):
    axes.barh(at, row['value'], height=0.7, color=COLORS[row['color']])
    if row['interval']:
      axes.plot(row['interval'], [at, at], color='black', linewidth=1.2)
      axes.plot(row['interval'], [at, at], '|', color='black', markersize=5)
  axes.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5))
  axes.set_xlim(0, max(axes.get_xlim()[1], 1e-3))
  axes.set_yticks(y, [row['name'] for row in rows])
  axes.tick_params(axis='y', length=0)
  axes.xaxis.set_major_locator(MaxNLocator(5))
  axes.grid(axis='x')
  texts = []
  for row in rows:
    text = f'{row["name"]}: {row["value"]:.4f}'
    if row['interval']:
      text += ' (95% interval {:.4f} to {:.4f})'.format(*row['interval'])
    texts.append(text)
  add_tips(axes, np.arange(len(rows) + 1) - 0.5, texts, is_vertical=False)
  return to_svg(figure, title)
