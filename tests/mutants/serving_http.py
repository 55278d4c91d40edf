"""Mutants of the HTTP server and of its page."""

from tests.mutants.mutant import Mutant

_SERVER = 'tiger_jax/serving/server'
_PAGE = 'tiger_jax/serving/page'
_TESTS = 'tests/serving/server'
_PAGE_TESTS = 'tests/serving/page'

MUTANTS = (
  Mutant(
    'an expired request keeps its place in the queue',
    f'{_SERVER}/batching.py',
    'if job in self._queue:',
    'if job in self._queue and not job.future.done():',
    f'{_TESTS}/test_batching.py::test_an_expired_request_frees_its_place',
  ),
  Mutant(
    'requests with different options share a batch',
    f'{_SERVER}/batching.py',
    'job.key == batch[0].key and size + job.size',
    'size + job.size',
    f'{_TESTS}/test_batching.py::test_a_batch_has_one_key_and_a_limited_size',
  ),
  Mutant(
    'any token opens the port',
    f'{_SERVER}/gate.py',
    'hmac.compare_digest(given, expected)',
    "given.startswith(b'Bearer ')",
    f'{_TESTS}/test_failures.py::test_the_admin_port_needs_its_token',
  ),
  Mutant(
    'a link in the folder of models is followed',
    f'{_SERVER}/models.py',
    ' or folder.is_symlink()',
    '',
    f'{_TESTS}/test_changes.py::test_only_folders_of_the_root_are_loaded',
  ),
  Mutant(
    'a rollback repeats the version of another catalog',
    f'{_SERVER}/models.py',
    'Served(name, shop, self._current.catalog + 1)',
    'Served(name, shop, shop.catalog_version)',
    f'{_TESTS}/test_changes.py'
    '::test_a_rollback_undoes_the_last_change_under_a_new_version',
  ),
  Mutant(
    'a request gets the list of another one in its batch',
    f'{_SERVER}/state.py',
    'del lists[: len(own)]',
    'del lists[: len(own) - 1]',
    f'{_TESTS}/test_load.py::test_overload_gives_429_and_loses_nothing',
  ),
  Mutant(
    'an item that was removed is shown as ignored',
    f'{_PAGE}/main.js',
    'item.unknown = unknown.has(item.item_id)',
    'item.unknown = true',
    f'{_PAGE_TESTS}/test_page.py::test_removed_items_stay_in_the_history',
  ),
  Mutant(
    'a busy server is not asked again',
    f'{_PAGE}/main.js',
    'if (error.wait) update(1000 * error.wait)',
    'if (false) update(1000 * error.wait)',
    f'{_PAGE_TESTS}/test_states.py'
    '::test_a_busy_server_is_asked_again_after_the_time_that_it_names',
  ),
  Mutant(
    'codes after a different code count as shared',
    f'{_PAGE}/state.js',
    'count < b.length && a[count] === b[count]',
    'count < b.length',
    f'{_PAGE_TESTS}/test_page.py'
    '::test_the_codes_that_an_item_shares_with_the_history_are_filled',
  ),
  Mutant(
    'probes are refused under overload',
    f'{_SERVER}/protocol.py',
    'return is_idle and self.url.startswith(_SHED)',
    'return is_idle',
    f'{_TESTS}/test_load.py'
    '::test_more_requests_than_the_limit_are_refused_unread',
  ),
  Mutant(
    'slow requests count as requests in progress',
    f'{_SERVER}/state.py',
    'num_requests - self._num_slow >= limit',
    'num_requests >= limit',
    f'{_TESTS}/test_load.py'
    '::test_slow_requests_do_not_count_as_requests_in_progress',
  ),
  Mutant(
    'a change does not raise the limit of the requests in progress',
    f'{_SERVER}/state.py',
    'if self.is_changing:',
    'if False:',
    f'{_TESTS}/test_load.py'
    '::test_more_requests_may_wait_while_the_model_changes',
  ),
  Mutant(
    'the limit falls as soon as a change ends',
    f'{_SERVER}/state.py',
    'self._num_changes > 0 or time.monotonic() < end',
    'self._num_changes > 0',
    f'{_TESTS}/test_load.py'
    '::test_more_requests_may_wait_while_the_model_changes',
  ),
  Mutant(
    'the programs for new items are compiled with the first item',
    f'{_SERVER}/models.py',
    '_warm_additions(self._current.shop)',
    'pass',
    f'{_TESTS}/test_changes.py::test_the_first_addition_compiles_nothing',
  ),
  Mutant(
    'a refused request ends its connection',
    f'{_SERVER}/protocol.py',
    '    if not keep_alive:\n      self.transport.close()\n',
    '    self.transport.close()\n',
    f'{_TESTS}/test_load.py'
    '::test_more_requests_than_the_limit_are_refused_unread',
  ),
  Mutant(
    'a refused request stops the timer of its idle connection',
    f'{_SERVER}/protocol.py',
    'if is_shed and self.timeout_keep_alive_task is None:',
    'if False:',
    f'{_TESTS}/test_load.py::test_an_idle_connection_is_closed_after_a_refusal',
  ),
)
