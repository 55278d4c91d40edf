import json

import pytest

from tiger_jax.data import counts
from tiger_jax.errors import DataError


@pytest.mark.parametrize(
  ('missing', 'known', 'text'),
  [
    (['7', '8'], ['007', '08', '9'], '2 of 2 match when leading zeros'),
    (['7', 'x'], ['007', 'X'], '1 of 2 match when leading zeros'),
    (['0'], ['000'], '1 of 1 match when leading zeros'),
    (['x', 'y', '7'], ['07', 'X', 'Y'], '2 of 3 match when case'),
    (['a'], ['b'], ''),
    ([], ['b'], ''),
  ],
)
def test_the_hint_names_the_best_match(missing, known, text):
  hint = counts.hint(missing, known)
  assert hint.startswith(text)
  assert bool(hint) == bool(text)


def test_a_drop_is_added_to_the_earlier_drops():
  before = counts.without_drops(users=10, items=4, events=100)
  after = counts.after_drop(before, 'by me', users=8, events=90)
  after = counts.after_drop(after, 'by you', users=8, events=85)
  assert after['events'] == {
    'read': 100, 'used': 85, 'dropped': {'by me': 10, 'by you': 5}
  }  # fmt: skip
  assert after['users'] == {'read': 10, 'used': 8, 'dropped': {'by me': 2}}
  assert before['events']['dropped'] == {}
  assert counts.after_drop({}, 'by me', 1, 1) == {}


def test_lines_have_no_control_characters():
  hostile = '\x1b[2J\n\u202ex'
  lines = counts.lines(
    {
      'events': counts.flow(5, 4, {hostile: 1}),
      'missing': {
        'items': 1, 'of_items': 2, 'events': 1, 'of_events': 2,
        'first': [hostile], 'hint': '',
      },
      'notes': [hostile],
    }
  )  # fmt: skip
  assert lines == [
    'events: 5 read, 4 used; dropped: 1 [2J x',
    'without text: 1 of 2 bought items (50.0% of events) are not in the '
    "catalog, such as '\\x1b[2J\\n\\u202ex'",
    '[2J x',
  ]


@pytest.mark.parametrize(
  'text',
  [
    '[1]', '"x"', '{', '[' * 100_000, '{"events": 3}', '{"notes": [3]}',
    '{"events": {"read": "x", "used": 1, "dropped": {}}}',
    '{"items": {"read": 1}}', '{"missing": {"items": 1}}',
    '{"fields": {"title": {"empty": "x"}}}', '{"fields": 1}',
    '{"missing": {"items": 1, "of_items": 1, "events": 1, "of_events": 0,'
    ' "first": [], "hint": ""}}',
  ],
)  # fmt: skip
def test_a_damaged_file_raises_a_one_line_error(tmp_path, text):
  (tmp_path / 'counts.json').write_text(text)
  with pytest.raises(DataError) as caught:
    counts.read(tmp_path)
  assert '\n' not in str(caught.value)
  assert str(tmp_path / 'counts.json') in str(caught.value)


def test_the_file_is_plain_json(tmp_path):
  dataset_counts = counts.without_drops(3, 2, 9)
  counts.write(dataset_counts, tmp_path)
  assert json.loads((tmp_path / 'counts.json').read_text()) == dataset_counts


def test_deeply_nested_values_raise_a_one_line_error_or_are_shown(tmp_path):
  for depth in (100, 300, 900, 950, 980, 990, 995, 2000):
    deep = '[' * depth + ']' * depth
    for text in (
      f'{{"fields": {{"title": {{"unusable": 1, "first": {deep}}}}}}}',
      f'{{"missing": {{"items": 1, "of_items": 1, "events": 1, "of_events": 1,'
      f' "first": [{deep}], "hint": {deep}}}}}',
    ):
      (tmp_path / 'counts.json').write_text(text)
      try:
        assert all(x.isprintable() for x in counts.lines(counts.read(tmp_path)))
      except DataError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize(
  'value',
  [None, True, -1, 0, 0.5, float('inf'), '', 'x', [], [1], {}, {'a': 1}, [[]],
   10**4000, '\ud800'],
)  # fmt: skip
@pytest.mark.parametrize('part', ['', 'read', 'dropped', 'first', 'empty'])
def test_wrong_types_raise_a_one_line_error_or_are_shown(tmp_path, value, part):
  flow = {'read': 5, 'used': 4, 'dropped': {'x': 1}}
  parts = {
    'events': flow,
    'items': {'read': 3, 'used': 2},
    'missing': {
      'items': 1, 'of_items': 2, 'events': 1, 'of_events': 2, 'first': ['a'],
      'hint': '',
    },
    'fields': {'title': {'empty': 1, 'unusable': 1, 'first': 'x'}},
    'notes': ['n'],
  }  # fmt: skip
  for name, good in parts.items():
    wrong = value
    if part and name == 'fields':
      wrong = {'title': {**good['title'], part: value}}
    elif part and name != 'notes':
      wrong = {**good, part: value}
    (tmp_path / 'counts.json').write_text(json.dumps({**parts, name: wrong}))
    try:
      lines = counts.lines(counts.read(tmp_path))
      assert all(line.isprintable() for line in lines)
    except DataError as error:
      assert str(error).isprintable()
