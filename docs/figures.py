"""Draws the figures of the documentation: `python -m docs.figures`."""

from pathlib import Path

import numpy as np

from docs.svg import Svg
from tiger_jax.catalog import index, sorted_ids

FOLDER = Path(__file__).parent
# A color for each level of a Semantic ID: fill, line.
LEVELS = (
  ('#dbeafe', '#2563eb'),
  ('#d1fae5', '#059669'),
  ('#fef3c7', '#b45309'),
)
BEAM = '#dc2626'
GRAY = '#6b7280'
PALE = '#f3f4f6'
LINE = '#cbd5e1'

# A catalog of eight items with three codes each, not sorted.
CODES = np.array(
  [
    (1, 2, 3), (0, 1, 0), (3, 1, 2), (1, 2, 1),
    (0, 3, 1), (1, 0, 3), (0, 1, 2), (1, 2, 0),
  ],
  np.int32,
)  # fmt: skip
SIZES = (4, 4, 4)
# The Semantic ID that the drawn beam generates.
GENERATED_ID = (1, 2, 1)


def chips(
  svg: Svg, x: float, y: float, codes: tuple[int, ...], size: float
) -> None:
  """Draws each code of a Semantic ID as a colored square."""
  for level, code in enumerate(codes):
    fill, line = LEVELS[level]
    left = x + level * (size + 4)
    svg.box(left, y, size, size, fill, line, radius=5)
    svg.text(
      left + size / 2,
      y + size * 0.7,
      code,
      max(17, size * 0.58),
      'middle',
      bold=True,
    )


def flow() -> str:
  """Returns a drawing of TIGER, from item text to ranked items."""
  svg = Svg(720, 500, 'The flow of TIGER, from item text to ranked items')
  width, height, gap = 212, 212, 22
  left = [20 + i * (width + gap) for i in range(3)]
  top = (16, 272)
  titles = (
    'Item text', 'Embedding', 'Semantic ID',
    'Transformer', 'Beam search', 'Ranked items',
  )  # fmt: skip
  notes = (
    'title, brand, price', 'text encoder', 'RQ-VAE codes',
    'reads the history', 'valid IDs only', 'k items, best first',
  )  # fmt: skip
  for i, (title, note) in enumerate(zip(titles, notes, strict=True)):
    x, y = left[i % 3], top[i // 3]
    svg.box(x, y, width, height, '#f8fafc', '#94a3b8', radius=12)
    svg.text(x + width / 2, y + 34, title, 24, 'middle', bold=True)
    svg.text(x + width / 2, y + height - 16, note, 20, 'middle', color=GRAY)
  for y in top:
    for x in left[1:]:
      svg.arrow([(x - gap + 1, y + height / 2), (x - 2, y + height / 2)])
  middle = (top[0] + height + top[1]) / 2
  svg.arrow(
    [
      (left[2] + width / 2, top[0] + height), (left[2] + width / 2, middle),
      (left[0] + width / 2, middle), (left[0] + width / 2, top[1] - 2),
    ]
  )  # fmt: skip

  x, y = left[0], top[0]
  for i, line in enumerate(('Gooseneck', 'Kettle, Plum', 'Kettleby, $63')):
    svg.text(x + width / 2, y + 82 + 30 * i, line, 22, 'middle')

  heights = (30, -18, 42, 12, -34, 22, -10, 36, -26, 16)
  x = left[1] + 26
  for i, value in enumerate(heights):
    top_edge = y + 110 - max(value, 0)
    svg.box(x + i * 16.4, top_edge, 12, abs(value), '#818cf8', '#4f46e5')
  svg.line([(x - 4, y + 110), (x + 164, y + 110)], GRAY)

  chips(svg, left[2] + 28, y + 84, (7, 21, 4), 48)

  x, y = left[0], top[1]
  for i, codes in enumerate(((3, 8, 1), (3, 2, 6))):
    chips(svg, x + 12, y + 58 + 34 * i, codes, 25)
  svg.arrow([(x + 97, y + 88), (x + 108, y + 88)])
  for name, row in (('encoder', 72), ('decoder', 138)):
    svg.box(x + 110, y + row, 92, 34, '#ede9fe', '#7c3aed', radius=8)
    svg.text(x + 156, y + row + 23, name, 19, 'middle')
  svg.arrow([(x + 156, y + 106), (x + 156, y + 135)])
  svg.arrow([(x + 110, y + 155), (x + 99, y + 155)])
  chips(svg, x + 12, y + 142, (7, 21, 4), 25)

  _tree(svg, left[1], top[1], width)

  x = left[2]
  for i, (name, score) in enumerate(
    (('Coffee', '-1.9'), ('Filter', '-2.8'), ('Mug', '-2.9'))
  ):
    row = y + 84 + 36 * i
    svg.text(x + 18, row, i + 1, 22, bold=True)
    svg.text(x + 46, row, name, 22)
    svg.text(x + width - 18, row, score, 20, 'end', color=GRAY)
  return svg.finished()


def _tree(svg: Svg, left: float, top: float, width: float) -> None:
  """Draws a trie of three levels with two beams in it."""
  root = (left + width / 2, top + 56)
  spread = (
    (42, 106, 170),
    (20, 64, 106, 150, 192),
    (20, 48, 80, 132, 164, 192),
  )
  parents = ((0, 0, 0), (0, 0, 1, 2, 2), (0, 1, 1, 3, 3, 4))
  beams = ({0, 2}, {1, 3}, {2, 3})
  before = [root]
  for level in range(3):
    y = top + 56 + 36 * (level + 1)
    nodes = [(left + x, y) for x in spread[level]]
    for i, node in enumerate(nodes):
      on_beam = i in beams[level]
      svg.line(
        [before[parents[level][i]], node],
        BEAM if on_beam else LINE,
        3 if on_beam else 2,
      )
    before = nodes
  svg.circle(*root, 6, '#334155', '#334155')
  for level in range(3):
    fill, line = LEVELS[level]
    for i, x in enumerate(spread[level]):
      y = top + 56 + 36 * (level + 1)
      on_beam = i in beams[level]
      svg.circle(left + x, y, 9, line if on_beam else fill, line)


def catalog() -> str:
  """Returns a drawing of a small catalog and of one beam that reads it."""
  num_items = len(CODES)
  layout, arrays = index.build(
    CODES, SIZES, np.arange(num_items), num_items + 1
  )
  # The drawing shows two bitmaps, the offsets of all prefixes of two codes, and
  # one column.
  assert layout.num_bitmaps == layout.offsets_depth == 2
  order = sorted_ids.sort_order(CODES, SIZES)
  rows = arrays.rows[: len(CODES)]
  last = arrays.columns[0][: len(CODES)]
  c1, c2, c3 = GENERATED_ID
  number = c1 * SIZES[1] + c2
  first, end = map(int, arrays.offsets[number : number + 2])
  slot = first + last[first:end].tolist().index(c3)

  svg = Svg(720, 776, 'The arrays of the catalog and one beam that reads them')
  svg.text(20, 40, 'Sorted Semantic IDs', 24, bold=True)
  columns = (52, 112, 166, 220, 286)
  for x, label in zip(columns, ('slot', 'c1', 'c2', 'c3', 'row'), strict=True):
    svg.text(x, 74, label, 20, 'middle', color=GRAY)
  for i, codes in enumerate(CODES[order]):
    y = 88 + 36 * i
    if first <= i < end:
      svg.box(24, y - 2, 300, 36, '#fee2e2', 'none')
    svg.text(columns[0], y + 23, i, 20, 'middle', color=GRAY)
    for level, code in enumerate(codes):
      # The first two codes are not stored: bitmaps and offsets imply them.
      fill, line = LEVELS[level] if level == 2 else ('white', LINE)
      svg.box(columns[level + 1] - 22, y, 44, 32, fill, line)
      svg.text(
        columns[level + 1], y + 23, code, 20, 'middle',
        color='#111827' if level == 2 else GRAY,
      )  # fmt: skip
    svg.box(columns[4] - 22, y, 44, 32, PALE, '#64748b')
    svg.text(columns[4], y + 23, rows[i], 20, 'middle')
  svg.box(columns[3] - 22, 88 + 36 * slot, 110, 32, 'none', BEAM, stroke=3)
  svg.badge(346, 104 + 36 * first, 3)
  svg.badge(346, 104 + 36 * slot, 4)

  x = 420
  svg.text(x - 30, 40, 'Bitmaps', 24, bold=True)
  svg.text(x - 30, 74, 'level 1: first codes', 20, color=GRAY)
  _bits(svg, x, 88, arrays.bitmaps[0], 0, None)
  svg.text(x - 30, 164, 'level 2: codes after c1', 20, color=GRAY)
  _bits(svg, x, 178, arrays.bitmaps[1], 1, c1)
  svg.badge(x + 4 * 52 + 24, 178 + 36 * c1 + 16, 1)
  for i in range(SIZES[0]):
    svg.text(x - 16, 178 + 36 * i + 23, i, 20, 'middle', color=GRAY)
  svg.text(x - 30, 358, 'filled: a valid code', 20, color=GRAY)

  y = 420
  svg.text(20, y + 8, 'Offsets', 24, bold=True)
  svg.text(340, y + 8, 'first slot of every prefix c1, c2', 20, color=GRAY)
  for i, value in enumerate(arrays.offsets[: SIZES[0] * SIZES[1] + 1]):
    on_beam = i in (number, number + 1)
    left = 20 + 40 * i
    svg.box(left, y + 24, 38, 34, '#fee2e2' if on_beam else PALE,
            BEAM if on_beam else '#94a3b8')  # fmt: skip
    svg.text(left + 19, y + 48, value, 20, 'middle')
    svg.text(left + 19, y + 80, i, 17, 'middle', color=GRAY)
  svg.badge(20 + 40 * (number + 1), y + 4, 2)

  codes = ', '.join(map(str, last[first : end - 1])) + f' or {last[end - 1]}'
  mask = np.flatnonzero(
    [arrays.bitmaps[1][c1, 0] >> i & 1 for i in range(SIZES[1])]
  )
  lines = (
    f'Prefix {c1}: its bitmap says {mask[0]} or {mask[1]} follows.',
    f'Prefix {c1}, {c2}: offsets {number} and {number + 1} give slots {first} '
    f'to {end - 1}.',
    f'Column c3 in these slots: {codes} follows.',
    f'The ID {c1}, {c2}, {c3} is in slot {slot}: item row {rows[slot]}.',
  )
  svg.text(20, 562, 'One beam, step by step', 24, bold=True)
  for i, line in enumerate(lines):
    svg.badge(36, 596 + 46 * i, i + 1)
    svg.text(66, 603 + 46 * i, line, 21)
  return svg.finished()


def _bits(
  svg: Svg, x: float, y: float, bitmap: np.ndarray, level: int, beam: int | None
) -> None:
  """Draws a row of squares for each prefix; a filled one is a valid code."""
  fill, line = LEVELS[level]
  for i, words in enumerate(bitmap):
    for code in range(SIZES[level]):
      valid = words[0] >> code & 1
      left, top = x + 52 * code, y + 36 * i
      svg.box(left, top, 48, 32, fill if valid else 'white',
              line if valid else LINE)  # fmt: skip
      if valid:
        svg.text(left + 24, top + 23, code, 20, 'middle', bold=True)
  if beam is not None:
    svg.box(x - 3, y + 36 * beam - 2, 52 * SIZES[level] + 2, 36, 'none', BEAM,
            stroke=3)  # fmt: skip


FIGURES = {'flow.svg': flow, 'catalog.svg': catalog}


def main() -> None:
  """Writes all figures."""
  for name, draw in FIGURES.items():
    (FOLDER / name).write_text(draw(), encoding='utf-8')
    print(f'wrote docs/{name}')


if __name__ == '__main__':
  main()
