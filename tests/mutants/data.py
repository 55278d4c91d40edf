"""Faults of the data: splits, windows, order, resumption and hold-out."""

from tests.mutants.mutant import Mutant

_SPLITS = 'tiger_jax/data/splits.py'
_BATCHES = 'tiger_jax/data/batches.py'
_FILTERS = 'tiger_jax/data/events/filters.py'
_MASKS = 'tiger_jax/data/events/masks.py'
_EVENTS = 'tiger_jax/data/events/log.py'
_HOLD_OUT = 'tiger_jax/data/hold_out.py'
_TIES = 'tiger_jax/data/ties.py'
_LEDGER = 'tiger_jax/checkpoints/ledger.py'
_SPLIT = 'tests/data/test_splits.py'
_BATCH = 'tests/data/test_batches.py'
_PREFETCH = 'tests/data/test_prefetch.py'
_LOG = 'tests/data/events/test_assembly.py'

MUTANTS = (
  Mutant(
    'the test target is the second to last event',
    _SPLITS,
    'first, last = stops - 1, stops\n',
    'first, last = stops - 2, stops - 1\n',
    f'{_SPLIT}::test_examples_equal_those_found_by_hand',
  ),
  Mutant(
    'training targets include the validation target',
    _SPLITS,
    'first, last = starts + 1, stops - 2',
    'first, last = starts + 1, stops - 1',
    f'{_SPLIT}::test_examples_equal_those_found_by_hand',
  ),
  Mutant(
    'the first event of a user is a target, with an empty history',
    _SPLITS,
    'first, last = starts + 1, stops - 2',
    'first, last = starts, stops - 2',
    f'{_SPLIT}::test_examples_equal_those_found_by_hand',
  ),
  Mutant(
    'training events include the validation target',
    _SPLITS,
    'kept[dataset.offsets[1:] - 2] = False',
    'kept[dataset.offsets[1:] - 2] = True',
    'tests/evaluation/test_measure.py::'
    'test_metrics_of_popularity_equal_a_loop_over_users',
  ),
  Mutant(
    'windows include the validation target',
    _SPLITS,
    'end = stops[user] - 3 - cut * max_history',
    'end = stops[user] - 2 - cut * max_history',
    f'{_SPLIT}::test_windows_equal_those_found_by_hand',
  ),
  Mutant(
    'a target is lost between two windows',
    _SPLITS,
    'np.maximum(starts[user], end - max_history)',
    'np.maximum(starts[user], end - max_history + 1)',
    f'{_SPLIT}::test_windows_equal_those_found_by_hand',
  ),
  Mutant(
    'a long history keeps its oldest items, not its latest',
    _SPLITS,
    'xp.minimum(end[:, None] - lengths + columns, end[:, None])',
    'xp.minimum(start[:, None] + columns, end[:, None])',
    f'{_SPLIT}::test_gather_equals_slicing',
  ),
  Mutant(
    'a history contains its target',
    _SPLITS,
    'xp.minimum(end[:, None] - lengths + columns, end[:, None])',
    'xp.minimum(end[:, None] - lengths + columns + 1, end[:, None])',
    f'{_SPLIT}::test_gather_equals_slicing',
  ),
  Mutant(
    'exact repeats are kept',
    _MASKS,
    'kept[order[1:][same]] = False',
    'kept[order[1:][same]] = True',
    _LOG,
  ),
  Mutant(
    'purchases that differ only in their times are dropped as repeats',
    _MASKS,
    'for column in (pairs, log.timestamps):',
    'for column in (pairs,):',
    _LOG,
  ),
  Mutant(
    'the last of several exact repeats is kept, not the first',
    _MASKS,
    'kept[order[1:][same]] = False',
    'kept[order[:-1][same]] = False',
    _LOG,
  ),
  Mutant(
    'events are ordered as in the log, not by time',
    _EVENTS,
    'return np.lexsort((self.timestamps, self.users))',
    "return np.argsort(self.users, kind='stable')",
    _LOG,
  ),
  Mutant(
    'events with equal times are in reverse order',
    _EVENTS,
    'return np.lexsort((self.timestamps, self.users))',
    'return np.lexsort('
    '(-np.arange(len(self.users)), self.timestamps, self.users))',
    _LOG,
  ),
  Mutant(
    'every epoch has the same order of batches',
    _BATCHES,
    'np.random.SeedSequence([self._seed, epoch])',
    'np.random.SeedSequence([self._seed])',
    _BATCH,
  ),
  Mutant(
    'every seed gives the same order of batches',
    _BATCHES,
    'np.random.SeedSequence([self._seed, epoch])',
    'np.random.SeedSequence([epoch])',
    _BATCH,
  ),
  Mutant(
    'short histories come first in every epoch',
    _BATCHES,
    'shuffled = rng.permutation(self._calls_per_epoch)',
    'shuffled = np.arange(self._calls_per_epoch)',
    _BATCH,
  ),
  Mutant(
    'every epoch excludes the same examples',
    _BATCHES,
    'order = rng.permutation(len(self._bucket))[:num_used]',
    'order = rng.permutation(num_used)',
    _BATCH,
  ),
  Mutant(
    'the examples left over from a bucket are dropped',
    _BATCHES,
    'np.concatenate([leftover, order[order_bucket == bucket]])',
    'np.concatenate([leftover[:0], order[order_bucket == bucket]])',
    _BATCH,
  ),
  Mutant(
    'a resumed run starts with the first batch again',
    _BATCHES,
    'grain.MapDataset.range(start, stop, size)',
    'grain.MapDataset.range(0, stop - start, size)',
    _PREFETCH,
  ),
  Mutant(
    'a resumed run starts one batch late',
    _BATCHES,
    'call, offset = divmod(start, self.steps_per_call)',
    'call, offset = divmod(start, self.steps_per_call)\n    call += bool(call)',
    _BATCH,
  ),
  Mutant(
    'padding rows contain item 0',
    _BATCHES,
    'return np.pad(x, padding, constant_values=-1)',
    'return np.pad(x, padding, constant_values=0)',
    f'{_BATCH}::test_evaluation_sees_every_example_once',
  ),
  Mutant(
    'a history that fills its bucket goes to the next bucket',
    _BATCHES,
    'return np.searchsorted(widths, lengths)',
    "return np.searchsorted(widths[:-1], lengths, side='right')",
    _BATCH,
  ),
  Mutant(
    'a request uses the oldest items of its history',
    _BATCHES,
    'latest = history[-width:]',
    'latest = history[:width]',
    f'{_BATCH}::test_request_batches_are_padded_and_cut',
  ),
  Mutant(
    'random numbers are the same in every step',
    'tiger_jax/training/step.py',
    'jax.random.fold_in(jax.random.key(seed), state.step)',
    'jax.random.fold_in(jax.random.key(seed), 0 * state.step)',
    'tests/training/test_loop.py'
    '::test_random_draws_depend_on_seed_and_step_only',
  ),
  Mutant(
    'all ledger lines of a call have the digest of its first batch',
    _LEDGER,
    'digest.update(array[i].tobytes())',
    'digest.update(array[0].tobytes())',
    'tests/checkpoints/test_ledger.py',
  ),
  Mutant(
    'ledger lines of steps after the checkpoint are kept',
    _LEDGER,
    'self._file.truncate(step * line)',
    'self._file.truncate(size)',
    'tests/checkpoints/test_ledger.py',
  ),
  Mutant(
    'events with equal times are not shuffled',
    _TIES,
    'np.lexsort((rank, dataset.timestamps, user))',
    'np.lexsort((dataset.timestamps, user))',
    'tests/data/test_ties.py',
  ),
  Mutant(
    'events with different times are shuffled',
    _TIES,
    'np.lexsort((rank, dataset.timestamps, user))',
    'np.lexsort((rank, user))',
    'tests/data/test_ties.py',
  ),
  Mutant(
    'a purchase of an unseen item stays in a history',
    _HOLD_OUT,
    '~np.isin(dataset.history, unseen)',
    '~np.isin(dataset.history, unseen[1:])',
    'tests/data/test_hold_out.py',
  ),
  Mutant(
    'purchases of unseen items are removed from the test too',
    _HOLD_OUT,
    'kept[last] = True\n',
    'kept[last[:1]] = True\n',
    'tests/data/test_hold_out.py',
  ),
)
