"""Tests of the lines and warnings about a dataset."""

import dataclasses

import numpy as np
import pytest

from tests.walks import make_dataset
from tiger_jax.data import counts
from tiger_jax.data.checking import report

TITLES = ('Red Mug', 'red mug', '', 'Clock')


def shop(times=True, **changes):
  dataset = make_dataset([[0, 1, 3, 0], [1, 0, 3], [1, 0, 3]], 4, title=TITLES)
  if times:
    stamps = np.asarray([1, 2, 2, 2, 4, 5, 6, 7, 8, 8])
    changes = {'timestamps': stamps} | changes
  return dataclasses.replace(
    dataset, counts=counts.without_drops(3, 4, 10), **changes
  )


def measure(dataset, **options):
  ids = dataset.items.ids
  texts = [title or ids[row] for row, title in enumerate(TITLES)]
  return report.measure(dataset, texts, **options)


def test_the_lines_are_those_written_by_hand():
  assert report.lines(measure(shop())) == [
    'events: 10 read, 10 used',
    'users: 3 read, 3 used',
    'items: 4 read, 4 used',
    'histories: 3 to 4 events, median 3, 90% have at most 3.8',
    'ties: 5 of 10 (50.0%) events have the same time as another event of the '
    'user; the order of the file decides 2 of 3 (66.7%) test targets and 2 of '
    '3 (66.7%) validation targets',
    'leaks: 1 of 3 (33.3%) test targets repeat an earlier item of the user, 0 '
    'of them the item just before; 1 of 3 (33.3%) users have the same history '
    "as an earlier user, such as '1', '2'",
    'time: on average, 25.0% of the training events are later than a test '
    'target, because the split is by user and not by date',
    'split: train 1 targets of 1 users; validation 3 and test 3 targets, one '
    'for each user',
    'cold items: 2 of 3 (66.7%) test targets and 1 validation targets are in '
    'no training event; 0 items are only test targets; 2 of 4 items are in '
    'training events, 1 in no event',
    'texts: 1 of 4 (25.0%) items have no text; 1 have the same text as an '
    "earlier item, such as '0' ('Red Mug') and '1' ('red mug'); of 3 different "
    'texts, 0 are nearly equal to another text',
  ]


def test_nearly_equal_texts_are_named():
  title = 'A waxed canvas rucksack with brass buckles and two side pockets, '
  texts = (f'{title}green', 'a clock', f'{title}greet')
  dataset = make_dataset([[0, 1, 2]] * 2, 3, title=texts)
  line = report.lines(report.measure(dataset, texts))[-1]
  assert "2 are nearly equal to another text, such as '0' (" in line
  assert " and '2' (" in line


def test_shuffled_ties_are_decided_by_chance():
  measured = measure(shop(), shuffles_ties=True)
  assert 'chance decides 2 of 3' in report.lines(measured)[4]
  assert not [
    x for x in report.warnings(measured) if 'shuffle_ties' in x.remedy
  ]


def test_without_times_the_file_decides():
  measured = measure(shop(times=False))
  lines = report.lines(measured)
  assert 'no times' in lines[4] and not any(x[:5] == 'time:' for x in lines)
  assert report.warnings(measured)[0].finding == (
    'the order of the file decides all targets'
  )


def test_every_finding_of_a_bad_shop_is_a_warning():
  findings = [x.finding for x in report.warnings(measure(shop()))]
  assert [x.partition(') ')[2].split()[0] for x in findings] == [
    'test', 'test', 'users', 'test', 'items', 'items',
  ]  # fmt: skip
  for name, number in (('order of the file', 2), ('no text', 1)):
    assert any(f'{number} of' in x and name in x for x in findings)


def test_control_characters_of_the_source_are_not_printed():
  dataset = make_dataset(
    [[0, 1, 2]] * 2, 3, title=('a\x1b[2J', 'a\x1b[2J', 'b')
  )
  dataset = dataclasses.replace(dataset, user_ids=('\x1b[1m', '\x07'))
  measured = report.measure(dataset, list(dataset.items.fields['title']))
  text = ''.join(report.lines(measured))
  assert '\x1b' not in text and '\x07' not in text


GOOD = measure(shop())
LIMITS = {
  'ties.test': report._MANY_TIES,
  'leaks.repeated': report._MANY_REPEATS,
  'leaks.copies': report._MANY_COPIES,
  'split.cold_test': report._MANY_COLD,
  'without_text': report._MANY_WITHOUT_TEXT,
  'texts.equal': report._MANY_EQUAL_TEXTS,
  'texts.near': report._MANY_NEAR_TEXTS,
}


def of(values):
  """Returns a report on 1,000 users and items, with these findings."""
  parts = {
    'ties': dataclasses.replace(GOOD.ties, test=0),
    'leaks': dataclasses.replace(GOOD.leaks, repeated=0, copies=0),
    'split': dataclasses.replace(GOOD.split, cold_test=0),
    'texts': dataclasses.replace(GOOD.texts, equal=0, near=0, sampled=1000),
    'without_text': 0,
  }
  for path, value in values.items():
    part, _, field = path.partition('.')
    parts[part] = (
      dataclasses.replace(parts[part], **{field: value}) if field else value
    )
  return dataclasses.replace(GOOD, num_users=1000, num_items=1000, **parts)


def test_a_good_shop_has_no_warning():
  assert report.warnings(of({})) == []


@pytest.mark.parametrize('path', LIMITS)
def test_a_warning_starts_above_its_limit(path):
  limit = LIMITS[path]
  number = round(1000 * limit)
  assert report.warnings(of({path: number})) == []
  (warning,) = report.warnings(of({path: number + 1}))
  assert warning.finding.startswith(f'{number + 1:,} of 1,000')
  assert warning.remedy
