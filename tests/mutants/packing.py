"""Faults of packed rows."""

from tests.mutants.mutant import Mutant

_TIGER = 'tiger_jax/models/tiger.py'
_TARGETS = 'tiger_jax/models/targets.py'
_PACKING = 'tiger_jax/data/packing.py'
_SESSION = 'tiger_jax/recommenders/session.py'
_ROWS = 'tests/models/test_packed_rows.py::'
_LOGITS = f'{_ROWS}test_logits_equal_those_of_each_history_alone'
_BOUNDARY = f'{_ROWS}test_next_items_never_cross_a_boundary'
_DATA = 'tests/data/test_packing.py::'
_ONCE = f'{_DATA}test_every_epoch_has_every_example_once'
_GATHERED = f'{_DATA}test_the_gathered_items_are_those_of_the_dataset'
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
    'plan.examples[layout.first_slot[row][:, None] + slot]',
    'plan.examples[layout.first_slot[row][:, None] + 0 * slot]',
    _ONCE,
  ),
  Mutant(
    'histories are in slots of the wrong length',
    _PACKING,
    "order[np.argsort(self._lengths[order], kind='stable')]",
    'order',
    _ONCE,
  ),
  Mutant(
    'every epoch has the same rows',
    _PACKING,
    'np.random.SeedSequence([self._seed, epoch])',
    'np.random.SeedSequence([self._seed])',
    f'{_DATA}test_the_rows_differ_between_epochs',
  ),
  Mutant(
    'the same histories share a row in every epoch',
    _PACKING,
    'order = rng.permutation(len(self._lengths))',
    'order = np.arange(len(self._lengths))',
    f'{_DATA}test_the_rows_differ_between_epochs',
  ),
  Mutant(
    'rows with histories of similar lengths are next to each other',
    _PACKING,
    'return _Plan(examples, rng.permutation(self._num_rows))',
    'return _Plan(examples, np.arange(self._num_rows))',
    f'{_DATA}test_batches_have_histories_of_all_lengths',
  ),
  Mutant(
    'the last rows of an epoch are lost if they fill no batch',
    _PACKING,
    'epoch, row = divmod(first, self._num_rows)',
    'epoch, row = divmod(\n'
    '        first, self._num_rows // self._batch_size * self._batch_size\n'
    '      )',
    f'{_EPOCHS}[3]',
  ),
  Mutant(
    'each row has one history',
    _PACKING,
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
    'float(lengths.sum() / self._num_rows)',
    'float(lengths.mean())',
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

MUTANTS = [*_MODEL, *_BATCHES, *_SETTINGS]
