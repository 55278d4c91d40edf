"""Faults of the history bias."""

from tests.mutants.mutant import Mutant

_MODULE = 'tiger_jax/models/history_bias.py'
_TESTS = 'tests/models/test_history_bias.py::'
_BRUTE_FORCE = f'{_TESTS}test_seen_codes_equal_brute_force[bitmaps]'
_SEARCH = (
  'tests/retrieval/test_ensemble.py::'
  'test_an_ensemble_ranks_by_the_mean_of_the_logits[trie]'
)
_SAME = (
  'tests/retrieval/test_tiger_trie.py::'
  'test_scores_are_the_negative_training_losses'
)
_PACKED = (
  'tests/models/test_packed_rows.py::'
  'test_losses_and_gradients_equal_those_of_the_padded_batch'
)
_BY_HAND = f'{_TESTS}test_preceding_items_are_worked_out_by_hand'

MUTANTS = [
  Mutant(
    'an item that was bought twice counts twice',
    _MODULE,
    'is_counted = visible & (num_repeated == 0)',
    'is_counted = visible',
    _BRUTE_FORCE,
  ),
  Mutant(
    'an item counts as a repeat of itself',
    _MODULE,
    'earlier = np.tri(codes.shape[1], k=-1, dtype=np.float32)',
    'earlier = np.tri(codes.shape[1], dtype=np.float32)',
    _BRUTE_FORCE,
  ),
  Mutant(
    'items with a different prefix mark codes',
    _MODULE,
    'self.visible & agrees.all(3)',
    'self.visible',
    f'{_TESTS}test_seen_codes_equal_brute_force[lists]',
  ),
  Mutant(
    'items after the target mark codes',
    _MODULE,
    'self.visible & agrees.all(3)',
    'agrees.all(3)',
    _BRUTE_FORCE,
  ),
  Mutant(
    'no code leads only to items of the history',
    _MODULE,
    'jnp.where(all_seen, _ALL, _SOME)',
    'jnp.where(all_seen, _SOME, _SOME)',
    _BRUTE_FORCE,
  ),
  Mutant(
    'all levels share one bias',
    'tiger_jax/models/tiger.py',
    'self.history_bias(level, x, candidates.seen)',
    'self.history_bias(0, x, candidates.seen)',
    _SEARCH,
  ),
  Mutant(
    'the bias does not depend on the decoder state',
    _MODULE,
    'x @ kernel[level] + table[level][None, None]',
    '0 * x @ kernel[level] + table[level][None, None]',
    f'{_TESTS}test_the_bias_depends_on_the_level_and_on_what_is_seen',
  ),
  Mutant(
    'the search does not follow the items of the history',
    'tiger_jax/retrieval/beam_search.py',
    'history_state = history_state.advance(chosen, candidates)',
    'history_state.advance(chosen, candidates)',
    _SAME,
  ),
  Mutant(
    'the search knows no code that leads only to items of the history',
    'tiger_jax/retrieval/filters.py',
    'self.all_listed[:, None, :, level],',
    'self.all_listed[:, None, :, level] & False,',
    _SAME,
  ),
  Mutant(
    'the search does not know the history',
    'tiger_jax/retrieval/tiger.py',
    'if model.config.history_bias',
    'if model.config.history_bias and False',
    _SEARCH,
  ),
  Mutant(
    'the training does not know the history',
    'tiger_jax/recommenders/tiger_task.py',
    'if self.model.config.history_bias:',
    'if self.model.config.history_bias and False:',
    _PACKED,
  ),
  Mutant(
    'a target sees the items after it',
    'tiger_jax/models/targets.py',
    'real & np.tri(num_targets, dtype=bool)[None]',
    'real & np.ones((num_targets, num_targets), bool)[None]',
    f'{_BY_HAND}[history1-7-3-expected1]',
  ),
  Mutant(
    'a target sees the other histories of its row',
    'tiger_jax/models/targets.py',
    'visible & same_history(batch) if batch.is_packed else visible',
    'visible',
    _PACKED,
  ),
]
