"""Tests the pictures of IDs against counts worked by hand."""

import itertools
import warnings

from matplotlib.text import Text
import numpy as np
from PIL import Image
import pytest

from tiger_jax.report import pictures
from tiger_jax.semantic_ids.ids import SemanticIds, group_rows


def _ids(codes, sizes):
  """Makes IDs of unique codes, without a level for collisions."""
  codes = np.array(codes, np.int32)
  return SemanticIds(
    codes=codes,
    level_sizes=sizes,
    num_meaning_levels=len(sizes),
    provenance={},
  )


def _measured(ids, **changes):
  """Makes a possible result of `quality.measure`."""
  levels = np.linspace(0.9, 0.1, ids.num_meaning_levels).tolist()
  _, counts = group_rows(ids.codes)
  return {
    'items': len(ids.codes),
    'usage': levels,
    'unique_prefix_rate': levels[::-1],
    'collision_rate': levels,
    'reconstruction_error': levels,
    'neighbor_agreement': levels,
    'neighbor_agreement_by_chance': [x / 2 for x in levels],
    'category_purity': levels[::-1],
    'category_purity_by_chance': [x / 3 for x in levels],
    'collision_histogram': {'1': len(counts)},
  } | changes


def _stacks(axes):
  """Returns the height of every category in every bar `[codes, names]`."""
  steps = [patch.get_data() for patch in axes.patches]
  for step in steps:
    # The gaps between codes are empty.
    assert not step.values[1::2].any()
    assert not step.baseline[1::2].any()
  return np.stack([(s.values - s.baseline)[::2] for s in steps], axis=1)


def _labels(axes):
  return [label.get_text() for label in axes.get_xticklabels()]


def _legend(figure):
  return [text.get_text() for text in figure.legends[0].get_texts()]


def _line(axes, label):
  (line,) = (x for x in axes.lines if x.get_label() == label)
  return line.get_ydata()


# First code 0 has items of the categories a, a and b, first code 1 has no
# items, and first code 2 has items of b, b, b, a and c.
_FEW = _ids(
  [[0, 0], [0, 1], [0, 3], [2, 0], [2, 1], [2, 2], [2, 3], [2, 4]], (3, 5)
)
_FEW_CATEGORIES = list('aabbbbac')


def test_few_first_codes_get_a_panel_each():
  figure = pictures.categories_figure(_FEW, _FEW_CATEGORIES)
  whole, *panels = figure.axes
  assert _legend(figure) == ['b', 'a', 'c']
  # The code whose main category is the most frequent one comes first.
  assert _labels(whole) == ['2', '0']
  np.testing.assert_array_equal(_stacks(whole), [[3, 1, 1], [1, 2, 0]])
  assert [panel.get_title() for panel in panels] == [
    'Items of first code 0',
    'Items of first code 2',
  ]
  assert _labels(panels[0]) == ['3', '0', '1']
  np.testing.assert_array_equal(
    _stacks(panels[0]), [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
  )
  assert _labels(panels[1]) == ['0', '1', '2', '3', '4']
  np.testing.assert_array_equal(
    _stacks(panels[1]), np.eye(3, dtype=int)[[0, 0, 0, 1, 2]]
  )


def test_many_first_codes_are_drawn_by_count_and_by_share():
  rng = np.random.default_rng(0)
  first = rng.integers(0, 100, 3000)
  category = rng.integers(0, 3, 3000)
  ids = _ids(np.stack([first, np.arange(3000)], axis=1), (120, 3000))
  # The most frequent category gets the first color.
  names = np.array(['a', 'b', 'c'])
  category[:2900] = np.repeat([0, 1, 2], [1200, 900, 800])
  figure = pictures.categories_figure(ids, names[category].tolist())
  counts, shares = figure.axes
  assert _legend(figure) == ['a', 'b', 'c']
  table = np.zeros((100, 3), np.int64)
  for code, label in zip(first, category, strict=True):
    table[code, label] += 1
  main = table.argmax(axis=1)
  purity = table.max(axis=1) / table.sum(axis=1)
  order = sorted(range(100), key=lambda code: (main[code], -purity[code]))
  np.testing.assert_array_equal(_stacks(counts), table[order])
  np.testing.assert_allclose(
    _stacks(shares), table[order] / table[order].sum(axis=1, keepdims=True)
  )
  assert not _labels(shares)


def test_rare_categories_share_a_color():
  names = [f'category {i}' for i in range(10)]
  categories = names * 3 + names[:8]
  ids = _ids([[0, i] for i in range(38)], (1, 38))
  figure = pictures.categories_figure(ids, categories)
  assert _legend(figure) == [*names[:8], '2 others']
  np.testing.assert_array_equal(_stacks(figure.axes[0]), [[4] * 8 + [6]])
  colors = [patch.get_facecolor() for patch in figure.axes[0].patches]
  assert len(set(colors)) == 9


def test_the_use_of_codes_is_relative_to_even_use():
  ids = _ids([[0, 0], [0, 1], [0, 2], [2, 3]], (4, 4))
  use = pictures.codes_figure(ids, _measured(ids)).axes[0]
  # Each code would have one item if the use were even.
  np.testing.assert_allclose(_line(use, 'level 1'), [3, 1])
  np.testing.assert_allclose(_line(use, 'level 2'), [1, 1, 1, 1])
  np.testing.assert_allclose(_line(use, 'even use'), [1, 1])


def test_collisions_and_measures_are_drawn_by_level():
  measured = _measured(_FEW, collision_histogram={'1': 30, '2': 4, '17': 1})
  figure = pictures.codes_figure(_FEW, measured)
  _, histogram, unique, error, neighbors, purity = figure.axes
  bars = histogram.containers[0].patches
  assert [(b.get_center()[0], b.get_height()) for b in bars] == [
    (pytest.approx(1), 30),
    (pytest.approx(2), 4),
    (pytest.approx(17), 1),
  ]
  for axes, name, label in (
    (unique, 'unique_prefix_rate', 'different ID prefixes per item'),
    (unique, 'collision_rate', 'share of items that collide'),
    (error, 'reconstruction_error', 'share of the variance'),
    (neighbors, 'neighbor_agreement', '10 nearest neighbors'),
    (neighbors, 'neighbor_agreement_by_chance', 'two random items'),
    (purity, 'category_purity', 'real categories'),
    (purity, 'category_purity_by_chance', 'shuffled categories'),
  ):
    assert list(_line(axes, label)) == measured[name]
  assert all(
    axes.get_ylim()[0] < 0 and axes.get_ylim()[1] > 1
    for axes in (unique, error, neighbors, purity)
  )


def test_missing_measures_are_labeled_as_not_applicable():
  measured = _measured(_FEW, reconstruction_error=None, neighbor_agreement=None)
  axes = pictures.codes_figure(_FEW, measured).axes
  for panel in axes[3:5]:
    assert [text.get_text() for text in panel.texts] == ['does not apply']
    assert not panel.lines


def test_a_reconstruction_error_above_one_stays_in_the_picture():
  measured = _measured(_FEW, reconstruction_error=[1.5, 2.5])
  axes = pictures.codes_figure(_FEW, measured).axes[3]
  assert axes.get_ylim()[1] > 2.5


def test_the_written_files_are_pictures(tmp_path):
  folder = tmp_path / 'a' / 'b'
  paths = pictures.draw(_FEW, _measured(_FEW), _FEW_CATEGORIES, folder)
  assert paths == [folder / 'categories.png', folder / 'codes.png']
  for path in paths:
    with Image.open(path) as image:
      assert image.format == 'PNG'
      assert 1200 < image.width < 2500
      assert 600 < image.height < 1500
      # The picture is not blank.
      assert len(image.convert('RGB').getcolors(2**24)) > 20


@pytest.mark.parametrize(
  ('codes', 'sizes', 'categories'),
  [
    ([[0]], (1,), ['only']),
    ([[2, 1, 0]], (4, 4, 4), ['Unknown']),
    ([[0], [5]], (9,), ['a', 'b']),
    ([[i % 300, i] for i in range(600)], (300, 600), ['a'] * 600),
    ([[i % 8, i] for i in range(64)], (8, 64), [str(i) for i in range(64)]),
    (
      [[i] for i in range(6)], (6,),
      ['', '_hidden', '$x$ & $', 'a\nb', '\N{HIRAGANA LETTER A}', 'long ' * 50],
    ),
  ],
)  # fmt: skip
def test_odd_shops_are_drawn(codes, sizes, categories, tmp_path):
  ids = _ids(codes, sizes)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    for path in pictures.draw(ids, _measured(ids), categories, tmp_path):
      assert path.stat().st_size > 5000


def test_names_of_categories_are_not_drawn_as_formulas():
  names = ['_hidden', '$x$ & $', 'long ' * 50]
  figure = pictures.categories_figure(_ids([[0], [1], [2]], (3,)), names)
  assert _legend(figure)[:2] == names[:2]
  assert _legend(figure)[2] == ('long ' * 50)[:27] + '…'


@pytest.mark.parametrize('num_first', [1, 8, 200])
def test_nothing_overlaps(num_first):
  names = [f'A category of name {i:02}, long' for i in range(9)]
  codes = [[i % num_first, i // num_first] for i in range(600)]
  ids = _ids(codes, (num_first, 600))
  figures = (
    pictures.categories_figure(ids, [names[i % 9] for i in range(600)]),
    pictures.codes_figure(ids, _measured(ids)),
  )
  for figure in figures:
    figure.draw_without_rendering()
    page = figure.bbox
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    boxes += [text.get_window_extent() for text in figure.texts]
    for box in boxes:
      assert page.x0 <= box.x0 and box.x1 <= page.x1
      assert page.y0 <= box.y0 and box.y1 <= page.y1
    for a, b in itertools.combinations(boxes, 2):
      width = min(a.x1, b.x1) - max(a.x0, b.x0)
      height = min(a.y1, b.y1) - max(a.y0, b.y0)
      assert width <= 1 or height <= 1
    texts = figure.findobj(Text)
    assert min(text.get_fontsize() for text in texts) >= 7
