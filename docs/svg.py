"""Writes SVG: boxes, lines and text on a white background."""

from collections.abc import Sequence
import html

_FONT = 'DejaVu Sans, Verdana, Helvetica, Arial, sans-serif'
Point = tuple[float, float]


class Svg:
  """A drawing that becomes the same SVG text on every machine."""

  def __init__(self, width: int, height: int, title: str):
    """Creates a white drawing; the title is for screen readers."""
    self._parts = [
      f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
      f'width="{width}" height="{height}" role="img" font-family="{_FONT}">',
      f'<title>{html.escape(title)}</title>',
      '<defs><marker id="arrow" viewBox="0 0 10 10" refX="8" refY="5" '
      'markerWidth="5" markerHeight="5" orient="auto">'
      '<path d="M0 0L10 5L0 10z" fill="#334155"/></marker></defs>',
      f'<rect width="{width}" height="{height}" rx="14" fill="white"/>',
    ]

  def box(
    self,
    x: float,
    y: float,
    width: float,
    height: float,
    fill: str,
    line: str,
    *,
    radius: float = 3,
    stroke: float = 2,
  ) -> None:
    """Draws a rectangle."""
    self._parts.append(
      f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
      f'rx="{radius:g}" fill="{fill}" stroke="{line}" '
      f'stroke-width="{stroke:g}"/>'
    )

  def circle(
    self, x: float, y: float, radius: float, fill: str, line: str
  ) -> None:
    """Draws a circle."""
    self._parts.append(
      f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}" '
      f'stroke="{line}" stroke-width="2"/>'
    )

  def badge(self, x: float, y: float, number: int) -> None:
    """Draws the number of a step in a red circle."""
    self.circle(x, y, 14, '#dc2626', '#dc2626')
    self.text(x, y + 7, number, 20, 'middle', color='white', bold=True)

  def text(
    self,
    x: float,
    y: float,
    text: object,
    size: float,
    anchor: str = 'start',
    *,
    color: str = '#111827',
    bold: bool = False,
  ) -> None:
    """Writes a line of text with its baseline at `y`."""
    weight = ' font-weight="bold"' if bold else ''
    self._parts.append(
      f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{color}" '
      f'text-anchor="{anchor}"{weight}>{html.escape(str(text))}</text>'
    )

  def line(
    self, points: Sequence[Point], color: str, width: float = 2, more: str = ''
  ) -> None:
    """Draws a line through points."""
    path = ' '.join(f'{x:g},{y:g}' for x, y in points)
    self._parts.append(
      f'<polyline points="{path}" fill="none" stroke="{color}" '
      f'stroke-width="{width:g}"{more}/>'
    )

  def arrow(self, points: Sequence[Point]) -> None:
    """Draws a line through points, with an arrowhead at the end."""
    self.line(points, '#334155', 3, ' marker-end="url(#arrow)"')

  def finished(self) -> str:
    """Returns the text of the file."""
    return '\n'.join([*self._parts, '</svg>', ''])
