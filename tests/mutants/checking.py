"""Faults of --mode=check_data and --mode=doctor."""

from tests.mutants.mutant import Mutant

_HISTORIES = 'tiger_jax/data/checking/histories.py'
_NEAR = 'tiger_jax/data/checking/near_texts.py'
_REPORT = 'tiger_jax/data/checking/report.py'
_VERDICT = 'tiger_jax/stages/verdict.py'
_RUN_FILES = 'tiger_jax/stages/run_files.py'
_MACHINE = 'tiger_jax/runtime/machine.py'
_COUNTED = 'tests/data/checking/test_histories.py'
_TEXTS = 'tests/data/checking/test_near_texts.py'
_JUDGED = 'tests/stages/test_verdict.py'
_FILES = 'tests/stages/test_run_files.py'

MUTANTS = (
  Mutant(
    'the last event of one user and the first of the next are tied',
    _HISTORIES,
    'as_before[dataset.offsets[:-1]] = False',
    'as_before[dataset.offsets[:1]] = False',
    f'{_COUNTED}::test_equal_times_of_two_users_are_no_tie',
  ),
  Mutant(
    'a validation target that is tied with the test target is not counted',
    _HISTORIES,
    'validation=int(is_tied[last - 1].sum())',
    'validation=int(as_before[last - 1].sum())',
    f'{_COUNTED}::test_ties_are_those_counted_by_hand',
  ),
  Mutant(
    'every test target repeats itself',
    _HISTORIES,
    'as_target[last] = False',
    'as_target[last[:0]] = False',
    f'{_COUNTED}::test_leaks_are_those_found_by_hand',
  ),
  Mutant(
    'a training event at the time of a test target is later',
    _HISTORIES,
    "side='right'",
    "side='left'",
    f'{_COUNTED}::test_an_event_at_the_time_of_a_target_is_not_later',
  ),
  Mutant(
    'an item that only validation and test have is only in test',
    _HISTORIES,
    'is_bought & ~_occurs(dataset, before_test)',
    'is_bought & ~is_trained',
    f'{_COUNTED}::test_an_item_of_a_validation_target_is_not_only_in_test',
  ),
  Mutant(
    'n-grams go from one text to the next',
    _NEAR,
    'np.repeat(np.arange(len(texts)) * (_GRAM - 1), counts)',
    'np.repeat(np.arange(len(texts)) * 0, counts)',
    f'{_TEXTS}::test_the_blocks_make_no_difference',
  ),
  Mutant(
    'candidates are not compared',
    _NEAR,
    '_similarity(texts[i], texts[j]) >= NEAR',
    '_similarity(texts[i], texts[j]) >= 0.3',
    f'{_TEXTS}::test_the_pairs_equal_those_of_brute_force',
  ),
  Mutant(
    'a copy in upper case is a different text',
    _NEAR,
    '_WORD.findall(text.casefold())',
    '_WORD.findall(text)',
    f'{_TEXTS}::test_equal_words_make_equal_texts',
  ),
  Mutant(
    'shuffled ties are still a warning',
    _REPORT,
    'elif not r.shuffles_ties:',
    'elif r.ties:',
    'tests/data/checking/test_report.py::'
    'test_shuffled_ties_are_decided_by_chance',
  ),
  Mutant(
    'the suggested share of bad rows is rounded down',
    _VERDICT,
    'math.ceil(bad[name] * 1000)',
    'math.floor(bad[name] * 1000)',
    f'{_JUDGED}::test_a_share_of_bad_rows_is_suggested',
  ),
  Mutant(
    'short users are a problem although they are dropped',
    _VERDICT,
    'if not drops_short_users(c.dataset) and (',
    'if not c.dataset.drop_short_users and (',
    f'{_JUDGED}::test_k_core_drops_short_users_without_the_switch',
  ),
  Mutant(
    'the suggested settings are not tried',
    _VERDICT,
    "first_checks.check_sizes(changed, dataset, 'evaluate', True)",
    "first_checks.check_sizes(changed, dataset, 'data', True)",
    f'{_JUDGED}::test_without_training_events_nothing_helps',
  ),
  Mutant(
    'steps that the user has chosen are replaced',
    _VERDICT,
    "if 'train.steps' not in chosen and not",
    'if not',
    f'{_JUDGED}::test_settings_of_the_user_are_kept',
  ),
  Mutant(
    'only the sizes of the files of a stage are compared',
    _RUN_FILES,
    'record.read(folder, thorough=True)',
    'record.read(folder)',
    f'{_FILES}::test_damage_is_one_problem',
  ),
  Mutant(
    'only the metrics of a checkpoint are checked',
    _RUN_FILES,
    'checkpoint_folder.read_contents(path, step)',
    "checkpoint_folder.read_contents(path, step, ('meta.json',))",
    f'{_FILES}::test_damage_is_one_problem',
  ),
  Mutant(
    'a lock of another process is not seen',
    _RUN_FILES,
    'fcntl.LOCK_SH | fcntl.LOCK_NB',
    'fcntl.LOCK_UN | fcntl.LOCK_NB',
    f'{_FILES}::test_a_process_that_uses_the_folder_is_noted',
  ),
  Mutant(
    'a damaged stage makes later stages stale',
    _RUN_FILES,
    '        found[name] = record.read(folder)\n',
    '',
    f'{_FILES}::test_a_damaged_stage_makes_no_later_stage_stale',
  ),
  Mutant(
    'a stale stage is up to date',
    _RUN_FILES,
    'if wanted == stage.fingerprint:',
    'if wanted:',
    f'{_FILES}::test_other_settings_make_later_stages_stale',
  ),
  Mutant(
    'a device that computes wrong results is not found',
    _MACHINE,
    'failed = [x for x in devices if not _computes(x)]',
    'failed = [x for x in devices[:1] if not _computes(x)]',
    'tests/runtime/test_machine.py::'
    'test_a_device_that_computes_wrong_results_is_a_problem',
  ),
)
