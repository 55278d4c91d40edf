"""Faults of the readers of your own files."""

from tests.mutants.mutant import Mutant

_FORMS = 'tests/data/sources/test_own_data_forms.py'
_HOSTILE = 'tests/data/sources/test_hostile.py'
_TIMES = 'tiger_jax/data/events/event_times.py'
_VALUES = 'tiger_jax/data/events/time_values.py'
_LOG = 'tiger_jax/data/events/event_log.py'
_CSV = 'tiger_jax/data/files/csv_table.py'
_ROWS = 'tiger_jax/data/files/csv_rows.py'

MUTANTS = (
  Mutant(
    'whole milliseconds are not converted to seconds',
    _TIMES,
    'scale = 1000**unit',
    'scale = 1000 ** min(unit, 0)',
    f'{_FORMS}::test_times',
  ),
  Mutant(
    'times in a different unit are accepted',
    _TIMES,
    '(units > 0) & (units != unit + 1)',
    '(units > 4) & (units != unit + 1)',
    f'{_FORMS}::test_the_first_block_decides_the_unit_and_the_kind',
  ),
  Mutant(
    'a small number decides the unit',
    _TIMES,
    'np.bincount(units[units > 0])',
    'np.bincount(units + 1)',
    f'{_FORMS}::test_the_first_block_decides_the_unit_and_the_kind',
  ),
  Mutant(
    'dates beyond the year 9999 and before the year 1 are accepted',
    _VALUES,
    'valid = valid & (seconds >= _FIRST) & (seconds < _END)',
    'valid = valid & (seconds < _END)',
    f'{_FORMS}::test_text_that_is_no_time',
  ),
  Mutant(
    'ids of dropped rows stay',
    _LOG,
    'if self._bad.counts.num_dropped:',
    'if not self._bad.counts.num_dropped:',
    f'{_HOSTILE}::test_ids_of_bad_rows_are_not_in_the_log',
  ),
  Mutant(
    'users are in the order of their first rows, good or bad',
    _LOG,
    'used = used[np.argsort(first)]',
    'used = used[np.argsort(used)]',
    f'{_FORMS}::test_users_are_in_the_order_of_their_first_good_rows',
  ),
  Mutant(
    'a carriage return within a line begins a row',
    _CSV,
    "if block.count(b'\\r') != block.count(b'\\r\\n'):",
    'if not block:',
    f'{_HOSTILE}::test_a_carriage_return_does_not_begin_a_row',
  ),
  Mutant(
    'the rows after a bad row are lost',
    _ROWS,
    'self._lines.rewind(after_first)',
    'pass',
    f'{_HOSTILE}::test_rows_after_an_open_quotation_are_read',
  ),
  Mutant(
    'the parts of a table are read in alphabetical order',
    'tiger_jax/data/files/input_files.py',
    'paths.sort(key=natural_key)',
    'paths.sort()',
    f'{_FORMS}::test_a_folder_of_files_is_read_in_natural_order',
  ),
  Mutant(
    'a named column does not replace the aliases',
    'tiger_jax/data/files/column_names.py',
    'return column not in self._named or column in self._fallback',
    'return True',
    f'{_FORMS}::test_the_config_names_columns',
  ),
  Mutant(
    'the error for a bad row does not name the setting that allows it',
    'tiger_jax/data/files/bad_rows.py',
    "f'{row}; or drop bad rows with config.dataset.max_bad_share',",
    "f'{row}',",
    f'{_HOSTILE}::test_malformed_records_are_dropped_and_counted',
  ),
  Mutant(
    'bad rows above the share are accepted',
    'tiger_jax/data/files/bad_rows.py',
    'if bad > self._max_share * read:',
    'if bad > read:',
    f'{_FORMS}::test_bad_rows_are_dropped_up_to_the_allowed_share',
  ),
)
