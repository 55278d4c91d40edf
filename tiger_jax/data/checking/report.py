"""Collects all measurements of a dataset, as lines to print and warnings."""

from collections.abc import Sequence
import dataclasses
from typing import Any, NamedTuple

import numpy as np

from tiger_jax.data import counts, item_text
from tiger_jax.data.checking import histories, near_texts
from tiger_jax.data.dataset import Dataset

# Shares above which a finding becomes a warning.
_MANY_TIES = 0.05
_MANY_REPEATS = 0.2
_MANY_COPIES = 0.01
_MANY_COLD = 0.1
_MANY_WITHOUT_TEXT = 0.05
_MANY_EQUAL_TEXTS = 0.05
_MANY_NEAR_TEXTS = 0.5


@dataclasses.dataclass(frozen=True)
class Report:
  """The measurements of a dataset.

  Attributes:
    counts: The numbers of read, used and dropped rows, see `data.counts`.
    num_users: The number of users.
    num_items: The number of items.
    num_events: The number of events.
    lengths: The lengths of the histories.
    ties: Events at the same time; None if the dataset has no times.
    shuffles_ties: Whether events at the same time are in random order.
    leaks: Facts that make a test target easier to predict.
    split: The numbers of targets and items of training, validation and test.
    without_text: The number of items without text.
    texts: Equal and nearly equal texts of items.
    equal_texts: Up to three pairs of items with equal texts.
    near_texts: Up to three pairs of items with nearly equal texts.
  """

  counts: dict[str, Any]
  num_users: int
  num_items: int
  num_events: int
  lengths: histories.Lengths
  ties: histories.Ties | None
  shuffles_ties: bool
  leaks: histories.Leaks
  split: histories.Split
  without_text: int
  texts: near_texts.NearTexts
  equal_texts: tuple[str, ...]
  near_texts: tuple[str, ...]


class Remark(NamedTuple):
  """A finding that makes training or evaluation worse.

  Attributes:
    finding: A description of the problem.
    remedy: The setting to change, or the change to make to the files.
  """

  finding: str
  remedy: str


def measure(
  dataset: Dataset, texts: Sequence[str], shuffles_ties: bool = False
) -> Report:
  """Measures a dataset.

  Args:
    dataset: The dataset.
    texts: The text of each item, as the encoder reads it.
    shuffles_ties: Whether events at the same time are in random order.
  """
  has_text = np.zeros(dataset.num_items, bool)
  for column in dataset.items.fields.values():
    has_text |= np.fromiter(map(bool, column), bool, dataset.num_items)
  near = near_texts.find(texts)
  return Report(
    counts=dataset.counts,
    num_users=dataset.num_users,
    num_items=dataset.num_items,
    num_events=dataset.num_interactions,
    lengths=histories.lengths(dataset),
    ties=histories.ties(dataset),
    shuffles_ties=shuffles_ties,
    leaks=histories.leaks(dataset),
    split=histories.split(dataset),
    without_text=int((~has_text).sum()),
    texts=near,
    equal_texts=_named(dataset, near.equal_rows),
    near_texts=_named(dataset, near.near_rows),
  )


def _named(
  dataset: Dataset, pairs: Sequence[tuple[int, int]]
) -> tuple[str, ...]:
  ids, titles = dataset.items.ids, dataset.items.fields['title']

  def name(row: int) -> str:
    return f'{item_text.shown(ids[row])} ({item_text.shown(titles[row])})'

  return tuple(f'{name(a)} and {name(b)}' for a, b in pairs)


def lines(report: Report) -> list[str]:
  """Returns a report as lines to print."""
  r, s, near = report, report.split, report.texts
  shown = [
    *counts.lines(r.counts),
    f'histories: {r.lengths.shortest:,} to {r.lengths.longest:,} events, '
    f'median {r.lengths.median:g}, 90% have at most {r.lengths.p90:g}',
    _ties_line(r),
    f'leaks: {_of(r.leaks.repeated, r.num_users)} test targets repeat an '
    f'earlier item of the user, {r.leaks.repeated_at_once:,} of them the item '
    f'just before; {_of(r.leaks.copies, r.num_users)} users have the same '
    'history as an earlier user' + _such_as(r.leaks.first_copy),
  ]
  if r.leaks.later is not None:
    shown.append(
      f'time: on average, {r.leaks.later:.1%} of the training events are later '
      'than a test target, because the split is by user and not by date'
    )
  shown += [
    f'split: train {s.train:,} targets of {s.trained_users:,} users; '
    f'validation {r.num_users:,} and test {r.num_users:,} targets, one for '
    'each user',
    f'cold items: {_of(s.cold_test, r.num_users)} test targets and '
    f'{s.cold_validation:,} validation targets are in no training event; '
    f'{s.test_only:,} items are only test targets; {s.trained_items:,} of '
    f'{r.num_items:,} items are in training events, {s.never_bought:,} in no '
    'event',
    f'texts: {_of(r.without_text, r.num_items)} items have no text; '
    f'{near.equal:,} have the same text as an earlier item'
    f'{_pairs(r.equal_texts)}; of {near.sampled:,} different texts, '
    f'{near.near:,} are nearly equal to another text{_pairs(r.near_texts)}',
  ]
  return [item_text.plain(line) for line in shown]


def _ties_line(report: Report) -> str:
  ties, users = report.ties, report.num_users
  if ties is None:
    return (
      'ties: the source has no times, so the order of the file decides all '
      'targets'
    )
  order = 'chance' if report.shuffles_ties else 'the order of the file'
  return (
    f'ties: {_of(ties.events, report.num_events)} events have the same '
    f'time as another event of the user; {order} decides '
    f'{_of(ties.test, users)} test targets and {_of(ties.validation, users)} '
    'validation targets'
  )


def _of(part: int, whole: int) -> str:
  return f'{part:,} of {whole:,} ({part / whole:.1%})'


def _pairs(examples: Sequence[str]) -> str:
  return f', such as {", or ".join(examples)}' if examples else ''


def _such_as(ids: Sequence[str]) -> str:
  return f', such as {counts.first_ids(ids)}' if ids else ''


def warnings(report: Report) -> list[Remark]:
  """Returns the findings that make training or evaluation worse."""
  r, users, items = report, report.num_users, report.num_items
  found = []

  def add(part: int, whole: int, limit: float, what: str, remedy: str) -> None:
    if part > limit * whole:
      found.append(Remark(f'{_of(part, whole)} {what}', remedy))

  if r.ties is None:
    found.append(
      Remark(
        'the order of the file decides all targets',
        'add a column of times, or check that the rows are in order',
      )
    )
  elif not r.shuffles_ties:
    add(
      r.ties.test, users, _MANY_TIES,
      'test targets depend on the order of the file',
      'set config.dataset.shuffle_ties=True, or give exact times',
    )  # fmt: skip
  add(
    r.leaks.repeated, users, _MANY_REPEATS,
    'test targets repeat an earlier item of the user',
    'compare the metrics "test" and "test_masked" of the report, and recommend '
    'with --exclude_seen if users do not want such items',
  )  # fmt: skip
  add(
    r.leaks.copies, users, _MANY_COPIES,
    'users have the same history as an earlier user',
    'remove the copies if the same person has several ids',
  )  # fmt: skip
  add(
    r.split.cold_test, users, _MANY_COLD,
    'test targets are in no training event',
    'add earlier events, or expect the model to know only their text',
  )  # fmt: skip
  add(
    r.without_text, items, _MANY_WITHOUT_TEXT,
    'items have no text, so their id is their text',
    'add their titles to the items file',
  )  # fmt: skip
  add(
    r.texts.equal, items, _MANY_EQUAL_TEXTS,
    'items have the same text as an earlier item, so their vectors are equal',
    'add a column that distinguishes them, such as description',
  )  # fmt: skip
  add(
    r.texts.near, r.texts.sampled, _MANY_NEAR_TEXTS,
    'texts are nearly equal to another text, so their Semantic IDs are similar',
    'add a column that distinguishes them, such as description',
  )  # fmt: skip
  return found
