"""Faults of recommendations for all users."""

from tests.mutants.mutant import Mutant

_JOB = 'tiger_jax/serving/offline/job.py'
_HISTORIES = 'tiger_jax/serving/offline/histories.py'
_OUTPUT = 'tiger_jax/serving/offline/output.py'
_ROWS_TESTS = 'tests/serving/offline/test_rows.py::'
_FILE_TESTS = 'tests/serving/offline/test_histories.py::'
_FOLDER_TESTS = 'tests/serving/offline/test_output.py::'

MUTANTS = (
  Mutant(
    'the users of a run are unknown to the model',
    _JOB,
    '[part.rows[user] for user in users]',
    '[-1 for user in users]',
    f'{_ROWS_TESTS}test_a_model_with_user_tokens_reads_the_users',
  ),
  Mutant(
    'searches with long lists of excluded items are not made smaller',
    _JOB,
    'while size > query.max_histories(lengths[users[-1]]):',
    'while size > query.max_histories(lengths[users[0]]):',
    f'{_ROWS_TESTS}test_long_lists_of_seen_items_make_smaller_searches',
  ),
  Mutant(
    'new titles do not change the digest of the catalog',
    _JOB,
    'json.dumps([snapshot.ids, snapshot.titles])',
    'json.dumps([snapshot.ids])',
    f'{_FOLDER_TESTS}test_another_model_or_catalog_is_refused',
  ),
  Mutant(
    'a process also writes the parts of the next process',
    _JOB,
    '(jax.process_index() + 1) * num_parts',
    '(jax.process_index() + 2) * num_parts',
    f'{_FOLDER_TESTS}test_processes_share_the_parts',
  ),
  Mutant(
    'a part of a file begins one line too late',
    _HISTORIES,
    'if count >= first:',
    'if count > first:',
    f'{_FILE_TESTS}test_parts_hold_all_lines_in_order',
  ),
  Mutant(
    'a part of a Parquet file begins with its row group',
    _HISTORIES,
    'skipped = min(max(0, first - start), batch.num_rows)',
    'skipped = 0',
    f'{_FILE_TESTS}test_parts_hold_all_lines_in_order',
  ),
  Mutant(
    'a file may change while it is read',
    _HISTORIES,
    'if _version(file) != self._status:',
    'if False:',
    f'{_FILE_TESTS}test_a_file_that_changes_is_an_error',
  ),
  Mutant(
    'long titles are written whole',
    'tiger_jax/serving/offline/tables.py',
    '[:MAX_TITLE]',
    '[:]',
    f'{_ROWS_TESTS}test_long_titles_are_cut',
  ),
  Mutant(
    'ids of any length are accepted',
    _HISTORIES,
    'if len(longest) > MAX_ID:',
    'if len(longest) > MAX_ID + 1:',
    f'{_FILE_TESTS}test_a_long_id_in_the_data_of_the_run_is_refused',
  ),
  Mutant(
    'a damaged part is kept',
    _OUTPUT,
    'if self.counts(number) and not self._is_intact(number):',
    'if False:',
    f'{_FOLDER_TESTS}test_a_damaged_part_is_written_again',
  ),
  Mutant(
    'a folder of another job is continued',
    _OUTPUT,
    'if job.get(name) != self._job.get(name)',
    'if False',
    f'{_FOLDER_TESTS}test_other_arguments_are_refused',
  ),
)
