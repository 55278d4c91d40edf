"""Faults of the filters of events, of the item table and of item texts."""

from tests.mutants.mutant import Mutant

_FILTERS = 'tiger_jax/data/events/filters.py'
_MASKS = 'tiger_jax/data/events/masks.py'
_ASSEMBLY = 'tiger_jax/data/events/assembly.py'
_TEXTS = 'tiger_jax/storage/texts.py'
_TEXT = 'tiger_jax/embedding/text.py'
_SLOW = (
  'tests/data/events/test_filters.py::'
  'test_all_filters_together_equal_the_slow_version'
)
_HOSTILE = 'tests/security/test_hostile_datasets.py'

MUTANTS = (
  Mutant(
    'users and items with few events are dropped only once',
    _MASKS,
    '      num_stable = 0\n',
    '      pass\n',
    _SLOW,
  ),
  Mutant(
    'an item with exactly k events is dropped',
    _MASKS,
    '(np.bincount(codes, minlength=1) < least)',
    '(np.bincount(codes, minlength=1) <= least)',
    _SLOW,
  ),
  Mutant(
    'the earliest events of a user are kept, not the latest',
    _MASKS,
    'ends[log.users[order]] - np.arange(len(order))',
    'len(order) - ends[log.users[order]] + np.arange(len(order))',
    _SLOW,
  ),
  Mutant(
    'the first of repeated items is kept instead of the last',
    _MASKS,
    '(order[:-1] if last else order[1:])',
    '(order[1:] if last else order[1:])',
    'tests/data/events/test_filters.py::'
    'test_one_of_several_events_with_the_same_item_is_kept',
  ),
  Mutant(
    'repeated items are compared in the order of the file, not by time',
    _MASKS,
    'by_time[np.argsort(pairs[by_time], kind=',
    'np.arange(len(pairs))[np.argsort(pairs, kind=',
    'tests/data/events/test_filters.py::'
    'test_one_of_several_events_with_the_same_item_is_kept',
  ),
  Mutant(
    'an event with the lowest allowed rating is dropped',
    _FILTERS,
    'masks.ratings(log) >= c.min_rating',
    'masks.ratings(log) > c.min_rating',
    'tests/data/events/test_filters.py::'
    'test_an_event_with_the_lowest_allowed_rating_is_kept',
  ),
  Mutant(
    'excluded items stay in the catalog',
    _ASSEMBLY,
    'used = known - excluded',
    'used = known',
    'tests/data/events/test_filters.py::'
    'test_a_dataset_has_only_the_remaining_items',
  ),
  Mutant(
    'items outside of the core stay in the catalog',
    _ASSEMBLY,
    '    used = bought\n',
    '    pass\n',
    'tests/data/events/test_filters.py::'
    'test_a_dataset_has_only_the_remaining_items',
  ),
  Mutant(
    'a compressed table of texts is read',
    _TEXTS,
    "column.compression != 'UNCOMPRESSED'",
    'not column.compression',
    f'{_HOSTILE}::test_refuses_compressed_texts',
  ),
  Mutant(
    'a missing text leaves the literal text before it',
    _TEXT,
    '      is_cut = not sentence\n',
    '      is_cut = not sentence\n      sentence += label\n',
    'tests/embedding/test_text.py::test_a_template_gives_the_text',
  ),
  Mutant(
    'a missing text in brackets leaves the second bracket',
    _TEXT,
    "closing = _BRACKETS.get(label[-1:], '')",
    "closing = ''",
    'tests/embedding/test_text.py::test_a_template_gives_the_text',
  ),
)
