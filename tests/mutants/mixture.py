"""Faults of the mixture of TIGER and transitions."""

from tests.mutants.mutant import Mutant

_FILE = 'tiger_jax/retrieval/mixture.py'
_TABLE = 'tiger_jax/models/baselines/transitions.py'
_MIXTURE = 'tests/retrieval/test_mixture.py::'
_SUCCESSORS = 'tests/retrieval/test_successors.py::'
_EVERY = f'{_MIXTURE}test_the_search_equals_a_ranking_of_all_items'
_GATES = 'tests/experiments/test_gates.py'
_ADD = (
  'tests/models/baselines/test_transitions.py::'
  'test_adding_pairs_gives_the_table_of_all_pairs'
)

MUTANTS = [
  Mutant(
    'a prefix has the mass of only one of its items',
    _FILE,
    'jnp.zeros_like(own).at[at].add(self.mass',
    'jnp.zeros_like(own).at[at].set(self.mass',
    _EVERY,
  ),
  Mutant(
    'candidates without mass keep the whole probability of TIGER',
    _FILE,
    'candidates = (self.log_rest + own)',
    'candidates = own',
    _EVERY,
  ),
  Mutant(
    'beams keep the log-probability of the mixture instead of that of TIGER',
    _FILE,
    'self._replace(items=items, log_probs=own)',
    'self._replace(\n'
    '      items=items, log_probs=candidates.reshape(own.shape)\n'
    '    )',
    _EVERY,
  ),
  Mutant(
    'denied items keep their mass',
    _FILE,
    'jnp.where(self.permitted, mass, 0)',
    'mass',
    f'{_MIXTURE}test_an_excluded_item_takes_no_beam',
  ),
  Mutant(
    'denying items changes the masses of permitted items',
    _FILE,
    'scores = jnp.where(items.beam >= 0, self.scores, 0)',
    'scores = jnp.where((items.beam >= 0) & self.permitted, self.scores, 0)',
    f'{_MIXTURE}test_an_excluded_item_takes_no_beam',
  ),
  Mutant(
    'removed items keep a part of the mass',
    _FILE,
    'scores = jnp.where(items.beam >= 0, self.scores, 0)',
    'scores = self.scores',
    f'{_MIXTURE}test_removed_items_have_no_mass',
  ),
  Mutant(
    'the share of transitions is not 0 for a request without transitions',
    _FILE,
    'jnp.where(total > 0, jnp.minimum(self.gate[:, None], _MAX_GATE), 0)',
    'jnp.minimum(self.gate[:, None], _MAX_GATE)',
    f'{_MIXTURE}test_a_share_of_zero_equals_tiger_alone',
  ),
  Mutant(
    'with a share of 1, items without transitions have probability 0',
    _FILE,
    '_MAX_GATE = 1 - 2.0**-20',
    '_MAX_GATE = 1.0',
    f'{_MIXTURE}test_a_share_of_one_ranks_the_transitions_first',
  ),
  Mutant(
    'only two copies of a successor are added up',
    _FILE,
    'range(1, num_copies)',
    'range(1, 2)',
    f'{_SUCCESSORS}test_the_scores_of_repeated_successors_are_added',
  ),
  Mutant(
    'a repeated successor is listed twice',
    _FILE,
    'total = jnp.where(is_repeat, 0, total)\n',
    '\n',
    f'{_SUCCESSORS}test_the_scores_of_repeated_successors_are_added',
  ),
  Mutant(
    'the share depends on the oldest recent item',
    _FILE,
    'recent.num_left[:, 0]',
    'recent.num_left[:, -1]',
    f'{_SUCCESSORS}test_the_gate_grows_with_the_count_of_the_last_item',
  ),
  Mutant(
    'items without a row have the transitions of an item with a row',
    _TABLE,
    'is_known = (place >= 0) & (item < len(self.num_left))',
    'is_known = place >= 0\n    item = item % len(self.num_left)',
    f'{_SUCCESSORS}test_items_without_a_row_have_no_transitions',
  ),
  Mutant(
    'a deny list permits only its own items',
    'tiger_jax/interfaces.py',
    'return (nearest == rows) == jnp.asarray(self.allow)[:, None]',
    'return nearest == rows',
    f'{_SUCCESSORS}test_excluded_items_are_marked',
  ),
  Mutant(
    'successors are not in the order of their counts',
    _TABLE,
    'np.lexsort((successor, -counts, first))',
    'np.lexsort((successor, first))',
    f'{_ADD} {_SUCCESSORS}test_only_the_best_items_are_kept',
  ),
  Mutant(
    'added pairs replace the counts',
    _TABLE,
    'np.repeat(known, count[:stop], axis=0)',
    'known',
    _ADD,
  ),
  Mutant(
    'the share is chosen on the test split',
    'tiger_jax/experiments/mixture.py',
    "_measure(trained, 'validation', gate)['ndcg@10']",
    "_measure(trained, 'test', gate)['ndcg@10']",
    _GATES,
  ),
  Mutant(
    'the masked test does not exclude seen items',
    'tiger_jax/experiments/mixture.py',
    'exclude_seen=True',
    'exclude_seen=False',
    _GATES,
  ),
]
