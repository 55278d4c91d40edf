"""Faults of the Beam pipelines. Their tests need the extra `beam`."""

from tests.mutants.mutant import Mutant

_EVENTS = 'tiger_jax/beam/events.py'
_MERGING = 'tiger_jax/beam/merging.py'
_SHARD = 'tiger_jax/beam/shard.py'
_PREPARE = 'tests/beam/test_prepare.py::'
_ITEMS = 'tests/beam/test_items.py::'
_SHARDS = 'tests/beam/test_shard.py::'
_FILTERS = f'{_PREPARE}test_every_filter_gives_the_same_dataset'
_FORMATS = f'{_PREPARE}test_every_format_gives_the_same_dataset'
_HISTORIES = f'{_SHARDS}test_shards_hold_the_histories_of_one_machine'

MUTANTS = [
  Mutant(
    'events of a bucket are not in the order of the files',
    _EVENTS,
    "table.take(pa.array(np.argsort(table['position'].to_numpy())))",
    "table.take(pa.array(np.argsort(table['position'].to_numpy())[::-1].copy()))",
    _FORMATS,
  ),
  Mutant(
    'the rows of all files have the same positions',
    _EVENTS,
    'pa.array(position + (self._number << _ROW_BITS))',
    'pa.array(position + 0 * (self._number << _ROW_BITS))',
    f'{_PREPARE}test_users_are_in_the_order_of_their_first_good_rows '
    f'{_FORMATS}',
  ),
  Mutant(
    'a user that k_core drops in a shard is kept',
    _EVENTS,
    'table = table.filter(pa.array(counts[of_event] >= least))',
    'table = table.filter(pa.array(counts[of_event] >= 0))',
    _FILTERS,
  ),
  Mutant(
    'k_core drops items in one round only',
    'tiger_jax/beam/core.py',
    'if not num_events[few].any():',
    'if by_item or not num_events[few].any():',
    _FILTERS,
  ),
  Mutant(
    'k_core counts the events of dropped users',
    'tiger_jax/beam/core.py',
    'remaining[remaining] = is_long[users[remaining]]',
    'remaining[remaining] = True',
    _FILTERS,
  ),
  Mutant(
    'items are in the order of their ids',
    _MERGING,
    "return parts.sort_by('first')",
    "return parts.sort_by('item')",
    'tests/beam/test_prepare.py',
  ),
  Mutant(
    'the drops of only one bucket are counted',
    _MERGING,
    "number = result['dropped_events'].pop(step.event_reason, 0)",
    "number = buckets[0]['dropped_events'].pop(step.event_reason, 0)",
    _FILTERS,
  ),
  Mutant(
    'vectors are joined in the wrong order',
    'tiger_jax/beam/vectors.py',
    "opened = [np.load(part, mmap_mode='r') for part in parts]",
    "opened = [np.load(part, mmap_mode='r') for part in parts[::-1]]",
    f'{_ITEMS}test_the_vectors_of_a_text_model_are_joined_in_order',
  ),
  Mutant(
    'new items replace items of the run',
    'tiger_jax/beam/assign.py',
    'rows[new] = len(existing.codes) + np.arange(len(new))',
    'rows[new] = np.arange(len(new))',
    f'{_ITEMS}test_new_items_get_the_semantic_ids_of_one_machine',
  ),
  Mutant(
    'an incomplete output is visible',
    'tiger_jax/beam/folders.py',
    '      yield partial / _RESULT, partial / _WORK\n',
    '      (partial / _RESULT).rename(out)\n'
    '      yield out, partial / _WORK\n'
    '      out.rename(partial / _RESULT)\n',
    f'{_PREPARE}test_the_output_appears_only_when_it_is_complete',
  ),
  Mutant(
    'the last two events of a user are counted as training events',
    _SHARD,
    'events[offsets[1:] - 1] = events[offsets[1:] - 2] = False',
    'events[offsets[1:] - 1] = False',
    _HISTORIES,
  ),
  Mutant(
    'a shard has the histories of only one file',
    _SHARD,
    'for _, stem, first, end, first_item in sorted(group[1]):',
    'for _, stem, first, end, first_item in sorted(group[1])[:1]:',
    _HISTORIES,
  ),
  Mutant(
    'the order of a shard depends on the runner',
    _SHARD,
    'for _, stem, first, end, first_item in sorted(group[1]):',
    'for _, stem, first, end, first_item in sorted(\n'
    '    group[1], key=lambda x: x[1]\n'
    '  ):',
    f'{_SHARDS}test_the_output_does_not_depend_on_the_number_of_workers',
  ),
  Mutant(
    'the sample has the first events of all users',
    _SHARD,
    'chosen = np.repeat(is_sampled, np.diff(offsets))',
    'chosen = np.arange(len(table)) < is_sampled.sum() * 5',
    _HISTORIES,
  ),
  Mutant(
    'each file has its own shards',
    _SHARD,
    'shard_of = (numbers % np.uint64(num_shards))',
    'shard_of = (numbers * 0 + np.uint64(int(path[-9]) % num_shards))',
    f'{_SHARDS}test_every_file_has_users_in_every_shard',
  ),
]
