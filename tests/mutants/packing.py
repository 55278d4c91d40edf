"""Faults of packed rows."""

from tests.mutants.mutant import Mutant

_TIGER = 'tiger_jax/models/tiger.py'
_TARGETS = 'tiger_jax/models/targets.py'
_PACKING = 'tiger_jax/data/packing.py'
_FIRST_FIT = 'tiger_jax/data/first_fit.py'
_PERMUTATIONS = 'tiger_jax/data/permutations.py'
_TRAINING_SHARDS = 'tiger_jax/data/training_shards.py'
_SESSION = 'tiger_jax/recommenders/session.py'
_ROWS = 'tests/models/test_packed_rows.py::'
_LOGITS = f'{_ROWS}test_logits_equal_those_of_each_history_alone'
_BOUNDARY = f'{_ROWS}test_next_items_never_cross_a_boundary'
_DATA = 'tests/data/test_packing.py::'
_ONCE = f'{_DATA}test_every_epoch_has_every_example_once'
_GATHERED = f'{_DATA}test_the_gathered_items_are_those_of_the_dataset'
_ON_DISK = 'tests/data/test_training_shards.py::'
_EPOCHS = f'{_DATA}test_batches_cover_consecutive_epochs'
_IN_SESSION = (
  'tests/recommenders/test_session.py::'
  'test_packed_rows_have_whole_histories_and_equally_weighted_targets'
)

_MODEL = [
  Mutant(
    'the encoder attends to the other histories of a packed row',
    _TIGER,
    '      visible = visible & self._same_history(batch)\n',
    '      visible = visible & True\n',
    _LOGITS,
  ),
  Mutant(
    'the targets of a packed row attend to earlier histories',
    _TIGER,
    '      mask = mask & self._same_history(batch)\n',
    '      mask = mask & True\n',
    _LOGITS,
  ),
  Mutant(
    'the target of a packed history is the first item of the next history',
    _TARGETS,
    'return jnp.where(batch.target >= 0, jnp.asarray(batch.target), following)',
    'return following',
    _BOUNDARY,
  ),
  Mutant(
    'only the last items of packed histories have targets',
    _TARGETS,
    'return jnp.where(batch.target >= 0, jnp.asarray(batch.target), following)',
    'return jnp.asarray(batch.target)',
    _BOUNDARY,
  ),
  Mutant(
    'recency is measured from the end of the packed row',
    _TIGER,
    'np.where(item[None, :] >= 0, last[:, None] - item[None, :], -1)',
    'np.where(item[None, :] >= 0, 0 * last[:, None] + 6 - item[None, :], -1)',
    _LOGITS,
  ),
  Mutant(
    'the last item of a history belongs to the next history',
    _TARGETS,
    'number = jnp.cumsum(is_last, axis=1) - is_last',
    'number = jnp.cumsum(is_last, axis=1)',
    _LOGITS,
  ),
  Mutant(
    'a token belongs to the history of a different item',
    _TIGER,
    'same = jnp.repeat(same_history(batch), len(self.level_sizes), axis=1)',
    'same = jnp.tile(same_history(batch), (1, len(self.level_sizes), 1))',
    _LOGITS,
  ),
]

_BATCHES = [
  Mutant(
    'the target of a packed history is its last item',
    _PACKING,
    'xp.where(self.is_last, events[self.position + 1], -1)',
    'xp.where(self.is_last, events[self.position], -1)',
    _GATHERED,
  ),
  Mutant(
    'the padding of a packed row has items',
    _PACKING,
    'xp.where(self.position >= 0, events[self.position], -1)',
    'xp.where(self.position >= -1, events[self.position], -1)',
    _GATHERED,
  ),
  Mutant(
    'all slots of a row have the history of the first slot',
    _PACKING,
    'start = np.take_along_axis(slot_start, slot, axis=1)',
    'start = slot_start[:, :1]',
    _ONCE,
  ),
  Mutant(
    'slots of equal length in a row have the same history',
    _FIRST_FIT,
    'first[i, slots] = num_used[lengths] + slots - before',
    'first[i, slots] = num_used[lengths] + 0 * (slots - before)',
    _ONCE,
  ),
  Mutant(
    'rows of one pattern have the same histories',
    _FIRST_FIT,
    'step[i, slots] = per_row[lengths]',
    'step[i, slots] = 0',
    _ONCE,
  ),
  Mutant(
    'every epoch has the same rows',
    _PACKING,
    'return permutations.permute(numbers, int(size), self._seed, *seeds)',
    'return permutations.permute(numbers, int(size), self._seed, *seeds[1:])',
    f'{_DATA}test_the_rows_differ_between_epochs',
  ),
  Mutant(
    'the same histories share a row in every epoch',
    _PACKING,
    'self._permute(number[is_n], counts[n], epoch, shard, n)',
    'number[is_n]',
    f'{_DATA}test_the_rows_differ_between_epochs',
  ),
  Mutant(
    'rows with histories of similar lengths are next to each other',
    _PACKING,
    'row = self._permute(row, self._num_rows[shard], epoch, shard, 0)',
    'row = row + 0',
    f'{_DATA}test_batches_have_histories_of_all_lengths',
  ),
  Mutant(
    'the last rows of an epoch are lost if they fill no batch',
    _PACKING,
    'epoch, row = divmod(first, self._rows_per_epoch)',
    'epoch, row = divmod(\n'
    '        first, self.steps_per_epoch * self._batch_size\n'
    '      )',
    f'{_EPOCHS}[3]',
  ),
  Mutant(
    'each row has one history',
    _FIRST_FIT,
    'num = min(remaining[length], space // length)',
    'num = min(remaining[length], space // length, int(space == width))',
    f'{_DATA}test_almost_no_position_is_padding[10]',
  ),
  Mutant(
    'packed histories of a large dataset are gathered on the device',
    _PACKING,
    'if self.events is not None:',
    'if self.events is not False:',
    f'{_DATA}test_a_large_dataset_is_gathered_on_the_host',
  ),
  Mutant(
    'a process gathers the rows of all processes',
    _PACKING,
    'source._own = rows[:, None]',
    'source._own = rows[:, None] | True',
    f'{_DATA}test_the_host_gathers_only_the_rows_of_a_process',
  ),
  Mutant(
    'a permutation repeats numbers',
    _PERMUTATIONS,
    'result[outside] = _feistel(result[outside], half, keys)',
    'result[outside] %= np.uint64(size)',
    'tests/data/test_permutations.py::test_every_number_occurs_once',
  ),
  Mutant(
    'a permutation depends only on its first seed',
    _PERMUTATIONS,
    'np.random.SeedSequence(seeds)',
    'np.random.SeedSequence(seeds[:1])',
    'tests/data/test_permutations.py::'
    'test_every_seed_selects_another_permutation',
  ),
]

_SHARDS = [
  Mutant(
    'a history is read from the place of another length',
    _TRAINING_SHARDS,
    'record = self._first_record.ravel()[place] + number',
    'record = number',
    f'{_ON_DISK}test_one_shard_gives_the_batches_of_the_dataset',
  ),
  Mutant(
    'the shards of an epoch always have the same order',
    _PACKING,
    'order = self._permute(shards, len(shards), epoch, len(shards), 0)',
    'order = shards',
    f'{_ON_DISK}test_an_epoch_reads_the_shards_one_after_the_other',
  ),
  Mutant(
    'all shards have the layout of the first shard',
    _PACKING,
    'lambda shard: first_fit.make_layout(counts[shard])',
    'lambda shard: first_fit.make_layout(counts[0])',
    f'{_ON_DISK}test_every_epoch_has_every_history_once',
  ),
  Mutant(
    'the ledger depends on where the histories are stored',
    _PACKING,
    'self._position_type = np.int32 if num_positions < 2**31 else np.int64',
    'self._position_type = np.int64 if histories.events is None else np.int32',
    f'{_ON_DISK}test_batches_from_disk_equal_those_from_memory',
  ),
  Mutant(
    'a shard with other records is accepted',
    _TRAINING_SHARDS,
    'if len(source) != self.counts[shard].sum():',
    'if len(source) < 0:',
    f'{_ON_DISK}test_a_damaged_folder_is_refused',
  ),
  Mutant(
    'a missing shard is found only when it is read',
    _TRAINING_SHARDS,
    'if not path.is_file():',
    'if path.is_dir():',
    f'{_ON_DISK}test_a_damaged_folder_is_refused',
  ),
  Mutant(
    'shards of another dataset are accepted',
    _TRAINING_SHARDS,
    '  if written_for != _digest(item_ids):',
    '  if not written_for:',
    f'{_ON_DISK}test_shards_of_another_dataset_are_refused',
  ),
  Mutant(
    'shards with histories of another width are accepted',
    _TRAINING_SHARDS,
    'if written_width != width:',
    'if written_width < 0:',
    f'{_ON_DISK}test_shards_of_another_width_are_refused',
  ),
  Mutant(
    'the rows of a process are those of the first process',
    'tiger_jax/runtime/sharding.py',
    'own[indices[device]] = True',
    'own[: len(own) // len(indices)] = True',
    'tests/runtime/test_sharding.py::'
    'test_the_rows_of_a_process_are_those_of_its_devices',
  ),
]

_SETTINGS = [
  Mutant(
    'a session ignores train.packed',
    _SESSION,
    'if c.packed:',
    'if c.packed and c.replicas > 1:',
    _IN_SESSION,
  ),
  Mutant(
    'the mean number of targets of a packed row is that of one history',
    _PACKING,
    'self.mean_targets = num_items / num_rows',
    'self.mean_targets = num_items / int(counts.sum())',
    _IN_SESSION,
  ),
  Mutant(
    'packed rows are accepted with user tokens',
    'tiger_jax/recommenders/checks.py',
    'if train.packed and (not is_one_pass or c.num_user_tokens):',
    'if train.packed and not is_one_pass:',
    'tests/recommenders/test_checks.py::'
    'test_contradictions_are_reported_in_one_sentence',
  ),
  Mutant(
    'packed rows are accepted for DSI',
    'tiger_jax/recommenders/checks.py',
    "is_one_pass = c.name == 'tiger' and c.causal_encoder",
    'is_one_pass = c.causal_encoder',
    'tests/recommenders/test_checks.py::'
    'test_contradictions_are_reported_in_one_sentence',
  ),
  Mutant(
    'the speed of packed training counts rows as histories',
    'tiger_jax/recommenders/throughput.py',
    'num_steps = len(calls) * source.steps_per_call',
    'num_steps = len(lengths) / batch_size',
    'tests/recommenders/test_throughput.py::'
    'test_a_report_of_packed_rows_counts_histories',
  ),
]

MUTANTS = [*_MODEL, *_BATCHES, *_SHARDS, *_SETTINGS]
