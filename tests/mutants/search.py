"""Faults of the search: proofs, filters, draws and wider searches."""

from tests.mutants.mutant import Mutant

_BEAMS = 'tests/retrieval/test_beam_search.py::'
_FILTERS = 'tests/retrieval/test_filters.py::'
_SAMPLING = 'tests/retrieval/test_sampling.py::'
_EXACT = 'tests/retrieval/test_exact_search.py::'

_SEARCH = [
  Mutant(
    'the bound ignores prefixes that are dropped before the last level',
    'tiger_jax/retrieval/beam_search.py',
    'dropped = jnp.maximum(dropped, best_dropped)',
    'dropped = best_dropped',
    f'{_BEAMS}test_a_dropped_prefix_may_hide_better_items',
  ),
  Mutant(
    'an item whose rank equals the bound is proven',
    'tiger_jax/retrieval/beam_search.py',
    'exact_k = (valid & (rank > dropped[:, None])).sum(1)',
    'exact_k = (valid & (rank >= dropped[:, None])).sum(1)',
    f'{_BEAMS}test_ties_are_in_code_order',
  ),
  Mutant(
    'the bound is a little too low',
    'tiger_jax/retrieval/beam_search.py',
    'return best[:, :k], chosen[:, :k], best[:, k]',
    'return best[:, :k], chosen[:, :k], best[:, -1] - 1e-3',
    f'{_BEAMS}test_ties_are_in_code_order',
  ),
  Mutant(
    'beams without a permitted item are valid',
    'tiger_jax/retrieval/beam_search.py',
    'valid = (items >= 0) & jnp.isfinite(rank)',
    'valid = items >= 0',
    f'{_FILTERS}test_requests_without_permitted_items_return_no_items',
  ),
  Mutant(
    'invalid beams keep an item',
    'tiger_jax/retrieval/beam_search.py',
    'jnp.where(valid, items, -1), codes, scores, valid, exact_k',
    'items, codes, scores, valid, exact_k',
    f'{_FILTERS}test_requests_without_permitted_items_return_no_items',
  ),
  Mutant(
    'probabilities are normalized over valid codes only',
    'tiger_jax/retrieval/beam_search.py',
    'if children and normalize_children:',
    'if children:',
    f'{_BEAMS}test_probabilities_are_normalized_before_masking',
  ),
  Mutant(
    'every beam continues with the cache of the first beam',
    'tiger_jax/retrieval/beam_search.py',
    'lambda x, p=parent: _gather_cache(x, p)',
    'lambda x, p=parent: _gather_cache(x, 0 * p)',
    f'{_BEAMS}test_an_unconstrained_search_marks_valid_ids',
  ),
  Mutant(
    'padding beams contain item 0',
    'tiger_jax/retrieval/beam_search.py',
    'jnp.pad(self.items, ((0, 0), padding), constant_values=-1)',
    'jnp.pad(self.items, ((0, 0), padding))',
    f'{_BEAMS}test_beams_are_padded[70]',
  ),
  Mutant(
    'an ID without an item gets the row of the next item',
    'tiger_jax/catalog/trie.py',
    'return jnp.where(in_range & (first < end), row, -1)',
    'return jnp.where(in_range, row, -1)',
    f'{_BEAMS}test_an_unconstrained_search_marks_valid_ids',
  ),
]

_LISTS = [
  Mutant(
    'denied items are masked only at the last level',
    'tiger_jax/retrieval/filters.py',
    'is_denied = self.all_listed[:, :, level] & ~self.allow[:, None]',
    'is_denied = self.all_listed[:, :, level] & ~self.allow[:, None] & '
    '(level == len(trie.level_sizes) - 1)',
    f'{_FILTERS}test_a_prefix_without_permitted_items_takes_no_beam',
  ),
  Mutant(
    'a prefix is denied as soon as one of its items is denied',
    'tiger_jax/retrieval/filters.py',
    'all_listed.append(below_end - below_first == end - first)',
    'all_listed.append(below_end - below_first > 0)',
    f'{_FILTERS}test_a_prefix_without_permitted_items_takes_no_beam',
  ),
  Mutant(
    'a list of allowed items allows all items',
    'tiger_jax/retrieval/filters.py',
    'candidates = jnp.where(listed | ~self.allow[:, None], candidates, '
    '-jnp.inf)',
    'candidates = jnp.where(listed | True, candidates, -jnp.inf)',
    f'{_FILTERS}test_requests_without_permitted_items_return_no_items',
  ),
  Mutant(
    'an item that is listed twice counts as two items',
    'tiger_jax/retrieval/filters.py',
    'is_new = slots[:, 1:] != slots[:, :-1]',
    'is_new = jnp.ones_like(slots[:, 1:], bool)',
    f'{_FILTERS}test_repeated_rows_count_once',
  ),
  Mutant(
    'a removed row denies the item that now has its ID',
    'tiger_jax/retrieval/listed_items.py',
    'in_catalog = (first < end) & (trie.arrays.rows[slot] == rows)',
    'in_catalog = first < end',
    f'{_FILTERS}test_removed_rows_are_ignored',
  ),
  Mutant(
    'an item on both lists is allowed',
    'tiger_jax/interfaces.py',
    'rows.append(denied if allowed is None else set(allowed) - denied)',
    'rows.append(denied if allowed is None else set(allowed))',
    f'{_FILTERS}test_deny_takes_precedence_over_allow',
  ),
  Mutant(
    'the padding -1 of a list is read as the last item',
    'tiger_jax/retrieval/items.py',
    'rows = jnp.where(rows >= 0, rows, num_items)',
    'rows = jnp.where(rows >= 0, rows, num_items - 1)',
    'tests/retrieval/test_items.py::test_lists_are_respected',
  ),
  Mutant(
    'items that the lists exclude are marked valid',
    'tiger_jax/retrieval/items.py',
    'valid = best > -jnp.inf',
    'valid = items >= 0',
    'tests/retrieval/test_items.py::test_lists_are_respected',
  ),
]

_DRAWS = [
  Mutant(
    'logits are multiplied by the temperature',
    'tiger_jax/retrieval/sampling.py',
    'logits / self.temperature',
    'logits * self.temperature',
    f'{_SAMPLING}test_no_rank_exceeds_the_rank_of_its_beam[0-1.0]',
  ),
  Mutant(
    'one level too many is sampled',
    'tiger_jax/retrieval/sampling.py',
    'is_sampled = level < self.num_levels',
    'is_sampled = level <= self.num_levels',
    f'{_SAMPLING}test_drawing_no_level_equals_a_plain_search',
  ),
  Mutant(
    'the rank of a child can exceed the rank of its beam',
    'tiger_jax/retrieval/sampling.py',
    'rank = jnp.where(is_sampled, conditioned, rank + log_probs)',
    'rank = jnp.where(is_sampled, noisy, rank + log_probs)',
    f'{_SAMPLING}test_no_rank_exceeds_the_rank_of_its_beam[0-1.0]',
  ),
  Mutant(
    'all children of a beam draw the same noise',
    'tiger_jax/retrieval/sampling.py',
    'fold(self.rngs[row, parent], code)',
    'fold(self.rngs[row, parent], 0 * code)',
    f'{_SAMPLING}test_items_are_drawn_without_replacement[1.0]',
  ),
  Mutant(
    'all requests draw the same noise',
    'tiger_jax/retrieval/sampling.py',
    'jax.vmap(jax.random.key)(self.seeds)',
    'jax.vmap(jax.random.key)(0 * self.seeds)',
    f'{_SAMPLING}test_a_seed_gives_the_same_items_in_every_batch',
  ),
  Mutant(
    'masked beams keep a finite rank',
    'tiger_jax/retrieval/sampling.py',
    '      jnp.where(jnp.isfinite(rank), log_probs, 0),\n      rank,\n',
    '      log_probs,\n      self.rank[row, parent, place],\n',
    f'{_SAMPLING}test_proven_draws_equal_a_search_with_all_beams',
  ),
]

_WIDER = [
  Mutant(
    'requests with fewer than k items are searched again',
    'tiger_jax/retrieval/tiger.py',
    'num_wanted = np.minimum(k, beams.valid.sum(1))',
    'num_wanted = np.full(len(beams.valid), k)',
    f'{_EXACT}test_requests_with_fewer_than_k_items_are_not_searched_again',
  ),
  Mutant(
    'an exact search stops when all results except one are proven',
    'tiger_jax/retrieval/tiger.py',
    '(beams.exact_k < num_wanted) & ~is_padding',
    '(beams.exact_k < num_wanted - 1) & ~is_padding',
    f'{_EXACT}test_only_unproven_requests_are_searched_again',
  ),
  Mutant(
    'padding rows are searched again',
    'tiger_jax/retrieval/tiger.py',
    'is_padding = (inputs[0].history < 0).all(1) & (inputs[0].user < 0)',
    'is_padding = np.zeros(len(inputs[0].user), bool)',
    f'{_EXACT}test_padding_rows_are_not_searched_again',
  ),
  Mutant(
    'exact_k exceeds the number of returned items',
    'tiger_jax/retrieval/tiger.py',
    '    np.minimum(beams.exact_k, beams.items.shape[1], out=beams.exact_k)\n',
    '',
    f'{_EXACT}test_only_unproven_requests_are_searched_again',
  ),
]

_ENSEMBLE = [
  Mutant(
    'an ensemble ranks by its first member',
    'tiger_jax/retrieval/ensemble.py',
    'return jnp.mean(logits, 0), cache',
    'return logits[0], cache',
    'tests/retrieval/test_ensemble.py',
  ),
  Mutant(
    'all members of an ensemble encode with the first parameters',
    'tiger_jax/retrieval/ensemble.py',
    "{'params': params}, codes, batch, method='encode'",
    "{'params': jax.tree.map(lambda x: x[0], self.members)}, codes, batch, "
    "method='encode'",
    'tests/retrieval/test_ensemble.py',
  ),
  Mutant(
    'the results of an ensemble are those of its best member',
    'tiger_jax/stages/evaluation.py',
    'models = [Ensemble(params)]',
    'models = [replicas.select(params, config.train.replicas, best)]',
    'tests/stages/test_evaluation.py',
  ),
  Mutant(
    'the prefixes of a small catalog have space for a quarter more items',
    'tiger_jax/catalog/layout.py',
    'max(1.25, capacity / num_items)',
    '1.25',
    'tests/catalog/test_index.py'
    '::test_a_small_catalog_can_grow_to_its_capacity',
  ),
]

MUTANTS = [*_SEARCH, *_LISTS, *_DRAWS, *_WIDER, *_ENSEMBLE]
