"""Converts matplotlib figures to SVG with tooltips."""

from collections.abc import Sequence
import io
import re

from cycler import cycler
from jaxtyping import Float
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
import numpy as np

# Paul Tol's muted colors, which color-blind people can distinguish.
COLORS = (
  '#332288', '#88CCEE', '#44AA99', '#117733', '#DDCC77', '#CC6677', '#882255',
  '#AA4499',
)  # fmt: skip
# The colors of lines, from the same palette.
CYCLE = cycler(color=['#332288', '#CC6677', '#117733', '#DDCC77', '#882255'])
STYLE = {
  'axes.prop_cycle': CYCLE,
  'font.size': 9,
  'axes.titlesize': 10,
  'axes.titleweight': 'bold',
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.axisbelow': True,
  'legend.frameon': False,
  'legend.fontsize': 8.5,
  'grid.alpha': 0.35,
  # Text is not converted to paths, so the page shows it in the page's font.
  # matplotlib computes the layout with a wider font, so that nothing overlaps.
  'svg.fonttype': 'none',
}
_TIP = 'tip-'
_BAND = re.compile(r'<g id="tip-([^"]*)">')
_ID = re.compile(r' id="([^"]*)"')


def add_tips(
  axes: Axes,
  edges: Sequence[float] | Float[np.ndarray, ' n'],
  texts: Sequence[str],
  is_vertical: bool = True,
) -> None:
  """Divides the axes into bands, each with a tooltip.

  Args:
    axes: The axes, with their final limits.
    edges: The n + 1 edges of n bands.
    texts: The text of each band.
    is_vertical: Whether the bands are side by side; otherwise they are stacked.
  """
  (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
  for i, text in enumerate(texts):
    start, size = edges[i], edges[i + 1] - edges[i]
    if is_vertical:
      corner, width, height = (start, low), size, high - low
    else:
      corner, width, height = (left, start), right - left, size
    band = Rectangle(corner, width, height, fill=False, linewidth=0)
    band.set_gid(_TIP + text)
    axes.add_patch(band)
  axes.set(xlim=(left, right), ylim=(low, high))


def to_svg(figure: Figure, title: str) -> Markup:
  """Returns a figure as inline SVG. Equal figures give equal SVG.

  Args:
    figure: The figure.
    title: A description of the figure for screen readers.
  """
  buffer = io.StringIO()
  with rc_context({**STYLE, 'svg.hashsalt': title}):
    figure.savefig(
      buffer,
      format='svg',
      transparent=True,
      metadata={'Date': None, 'Creator': None, 'Format': None, 'Type': None},
    )
  svg = buffer.getvalue()
  svg = svg[svg.index('<svg') :]
  svg = re.sub(r'<metadata>.*?</metadata>\s*', '', svg, flags=re.S)
  svg = re.sub(r'<!--.*?-->\s*', '', svg, flags=re.S)
  svg = _BAND.sub(r'<g class="tip"><title>\1</title>', svg)
  # Ids must be unique on a page, so those without a reference are removed.
  used = set(re.findall(r'#([^")]+)[")]', svg))
  svg = _ID.sub(lambda x: x[0] if x[1] in used else '', svg)
  # The page sets the size; the view box keeps the proportions.
  head, _, rest = svg.partition('>')
  head = re.sub(r' (width|height|version|xmlns:xlink)="[^"]*"', '', head)
  head += f' role="img" aria-label="{escape(title)}"'
  rest = rest.replace('xlink:href', 'href')
  rest = re.sub(r'\n\s*', '\n', rest)
  return Markup(f'{head}>{rest}')  # noqa: S704 (matplotlib escapes its texts)
