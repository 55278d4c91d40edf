"""Faults of the trie softmax, the recency bias and the prefix embeddings."""

from tests.mutants.mutant import Mutant

_LOSS = 'tests/models/test_trie_cross_entropy.py::'
_SEARCH = 'tests/retrieval/test_normalized_children.py::'
_TIGER = 'tests/retrieval/test_tiger_trie.py::'
_NETWORK = 'tests/models/test_recency_and_prefixes.py::'
_TABLE = 'tests/models/test_prefixes.py::'
_PASS = (
  'tests/models/test_one_pass.py::test_one_pass_equals_one_pass_per_prefix'
  '[changes2]'
)
_SCALES = (
  'tests/models/test_dropout_and_scale.py::'
  'test_initial_parameters_have_the_expected_scale'
)
_SESSION = 'tests/recommenders/test_session.py::'
_DRAWS = f'{_SEARCH}test_items_are_drawn_without_replacement'

_LOSSES = [
  Mutant(
    'the trie softmax sums over all codes',
    'tiger_jax/models/cross_entropy.py',
    'jax.nn.logsumexp(children.mask(logits), axis=2)',
    'jax.nn.logsumexp(logits, axis=2)',
    f'{_LOSS}test_the_loss_equals_a_loss_with_a_dense_mask[bitmaps]',
  ),
  Mutant(
    'the loss reads the logit of a different code',
    'tiger_jax/models/cross_entropy.py',
    'place = trie.place(level, prefixes, code)',
    'place = code',
    f'{_LOSS}test_the_loss_equals_a_loss_with_a_dense_mask[lists]',
  ),
  Mutant(
    'the trie softmax does not follow the codes of the target',
    'tiger_jax/models/cross_entropy.py',
    'prefixes = trie.descend(level, prefixes, code)',
    'prefixes = trie.descend(level, prefixes, 0 * code)',
    f'{_LOSS}test_the_loss_equals_a_loss_with_a_dense_mask[bitmaps]',
  ),
  Mutant(
    'a prefix without children has no finite softmax',
    'tiger_jax/catalog/trie.py',
    'usable = self.valid | ~self.valid.any(2, keepdims=True)',
    'usable = self.valid',
    f'{_LOSS}test_padding_has_a_finite_loss_and_no_gradient[lists]',
  ),
  Mutant(
    'invalid and repeated entries of a list have probabilities',
    'tiger_jax/catalog/trie.py',
    'return jnp.where(usable, logits, -jnp.inf)',
    'return logits',
    f'{_LOSS}test_the_loss_equals_a_loss_with_a_dense_mask[lists]',
  ),
  Mutant(
    'the task ignores the trie',
    'tiger_jax/recommenders/tiger_task.py',
    'if trie:',
    'if trie and False:',
    'tests/recommenders/test_tiger_task.py::'
    'test_a_trie_softmax_normalizes_over_the_codes_of_items[True]',
  ),
  Mutant(
    'the task gets no trie',
    'tiger_jax/recommenders/tiger_task.py',
    'lambda: session.training_trie',
    'lambda: None',
    f'{_SESSION}test_the_training_trie_has_only_items_of_training_histories',
  ),
  Mutant(
    'items that are absent from training are in the normalizer',
    'tiger_jax/recommenders/session.py',
    'rows = np.flatnonzero(training_counts(self.inputs))',
    'rows = np.flatnonzero(training_counts(self.inputs) >= 0)',
    f'{_SESSION}test_the_training_trie_has_only_items_of_training_histories',
  ),
  Mutant(
    'items that occur once in training are not in the normalizer',
    'tiger_jax/recommenders/session.py',
    'np.flatnonzero(training_counts(self.inputs))',
    'np.flatnonzero(training_counts(self.inputs) > 1)',
    f'{_SESSION}test_the_training_trie_has_only_items_of_training_histories',
  ),
  Mutant(
    'the share of invalid IDs is measured even with a trie softmax',
    'tiger_jax/recommenders/session.py',
    "return self.entry.is_generative and self.config.model.softmax != 'trie'",
    'return self.entry.is_generative',
    'tests/evaluation/test_measure.py::'
    'test_a_model_with_a_trie_softmax_has_no_invalid_ids',
  ),
  Mutant(
    'DSI accepts a trie softmax',
    'tiger_jax/recommenders/checks.py',
    "if config.model.softmax == 'trie' and is_other:",
    "if config.model.softmax == 'tree' and is_other:",
    'tests/recommenders/test_checks.py::'
    'test_contradictions_are_reported_in_one_sentence',
  ),
  Mutant(
    'VQ-Rec refuses a trie softmax instead of ignoring it',
    'tiger_jax/recommenders/checks.py',
    "is_other = model.is_generative and config.model.name != 'tiger'",
    "is_other = config.model.name != 'tiger'",
    'tests/recommenders/test_checks.py::'
    'test_settings_without_contradictions_are_accepted',
  ),
]

_SEARCHES = [
  Mutant(
    'the search normalizes over all codes',
    'tiger_jax/retrieval/beam_search.py',
    'if children and normalize_children:',
    'if children and normalize_children and level > 1:',
    f'{_SEARCH}test_the_search_equals_a_slow_search',
  ),
  Mutant(
    'the search ignores the softmax of the model',
    'tiger_jax/retrieval/tiger.py',
    "normalize_children=model.config.softmax == 'trie'",
    'normalize_children=False',
    f'{_TIGER}test_scores_are_the_negative_training_losses',
  ),
  Mutant(
    'a model with a trie softmax searches invalid IDs',
    'tiger_jax/retrieval/tiger.py',
    "if self.model.config.softmax == 'trie' and not constrained:",
    "if self.model.config.softmax == 'tree' and not constrained:",
    f'{_TIGER}test_an_unconstrained_search_is_refused',
  ),
  Mutant(
    'the noise of a code depends on its place among the valid codes',
    'tiger_jax/retrieval/sampling.py',
    'noise = take_codes(noise, codes)',
    'noise = noise[:, :, : logits.shape[2]]',
    f'{_SEARCH}test_a_draw_does_not_depend_on_other_valid_codes',
  ),
  Mutant(
    'the sampler reads the log-probability of a different code',
    'tiger_jax/retrieval/beam_search.py',
    'position = place if normalize_children else code',
    'position = code',
    _DRAWS,
  ),
  Mutant(
    'the rank of a masked beam becomes NaN',
    'tiger_jax/retrieval/sampling.py',
    'jnp.where(jnp.isfinite(rank), log_probs, 0)',
    'log_probs',
    f'{_SEARCH}test_continuations_of_a_masked_beam_are_masked',
  ),
]

_RECENCY = [
  Mutant(
    'tokens with a negative number of later items get a bias',
    'tiger_jax/models/relative_position.py',
    'jnp.where(jnp.asarray(num_later)[..., None] >= 0, bias, 0)',
    'jnp.where(jnp.asarray(num_later)[..., None] >= -1, bias, 0)',
    f'{_NETWORK}test_the_recency_bias_equals_values_worked_by_hand',
  ),
  Mutant(
    'the recency is not limited',
    'tiger_jax/models/relative_position.py',
    'table[jnp.clip(num_later, 0, MAX_RECENCY)]',
    'table[num_later % (MAX_RECENCY + 1)]',
    f'{_NETWORK}test_the_recency_bias_equals_values_worked_by_hand',
  ),
  Mutant(
    'the recency bias is random at the start',
    'tiger_jax/models/relative_position.py',
    "self.param('table', nn.initializers.zeros, shape)",
    "self.param('table', nn.initializers.normal(), shape)",
    f'{_SCALES}[prefixes]',
  ),
  Mutant(
    'the user token has a recency',
    'tiger_jax/models/tiger.py',
    'num_later = jnp.where(item[None, :] >= 0, last - item[None, :], -1)',
    'num_later = last - item[None, :]',
    f'{_NETWORK}test_user_tokens_get_no_recency_bias',
  ),
  Mutant(
    'the user token has a recency in one pass',
    'tiger_jax/models/tiger.py',
    'np.where(item[None, :] >= 0, last[:, None] - item[None, :], -1)',
    'last[:, None] - item[None, :]',
    _PASS,
  ),
  Mutant(
    'padding counts as later items',
    'tiger_jax/models/tiger.py',
    'last = real.sum(axis=1, keepdims=True) - 1',
    'last = 0 * real.sum(axis=1, keepdims=True) + num_items - 1',
    f'{_NETWORK}test_wider_padding_changes_nothing[5]',
  ),
  Mutant(
    'one pass counts the recency from the end of the whole history',
    'tiger_jax/models/tiger.py',
    'last[:, None] - item[None, :], -1)',
    'num_items - 1 - item[None, :], -1)',
    _PASS,
  ),
  Mutant(
    'decoding step by step has no recency bias',
    'tiger_jax/models/tiger.py',
    '      self._cross_bias(encoded.num_later[:, None]),\n      True,\n',
    '      None,\n      True,\n',
    f'{_NETWORK}test_decoding_step_by_step_equals_one_pass',
  ),
  Mutant(
    'a pass with one target has no recency bias',
    'tiger_jax/models/tiger.py',
    '      self._cross_bias(encoded.num_later[:, None]),\n'
    '      deterministic,\n',
    '      None,\n      deterministic,\n',
    _PASS,
  ),
  Mutant(
    'cross-attention ignores its bias',
    'tiger_jax/models/transformer.py',
    '        cross_bias,\n',
    '        None,\n',
    'tests/models/test_transformer.py::test_decoder_equals_slow_numpy',
  ),
  Mutant(
    'weight decay applies to the recency bias',
    'tiger_jax/training/optimizer.py',
    "name.endswith('_bias/table')",
    "name.endswith('position_bias/table')",
    'tests/training/test_optimizer.py::'
    'test_weight_decay_of_tiger_applies_to_kernels_and_embeddings',
  ),
]

_PREFIXES = [
  Mutant(
    'the hash of a prefix depends only on its last code',
    'tiger_jax/models/prefixes.py',
    'x = prefix_hash ^ (code.astype(jnp.uint32) + np.uint32(1))',
    'x = code.astype(jnp.uint32) + np.uint32(1)',
    f'{_TABLE}test_a_hash_depends_on_all_codes_of_its_prefix',
  ),
  Mutant(
    'the hash of a prefix does not depend on the order of its codes',
    'tiger_jax/models/prefixes.py',
    '  return x ^ (x >> 13)\n',
    '  return prefix_hash + code.astype(jnp.uint32)\n',
    f'{_TABLE}test_the_hash_equals_a_hash_in_plain_python',
  ),
  Mutant(
    'a prefix of zeros has the hash zero',
    'tiger_jax/models/prefixes.py',
    'code.astype(jnp.uint32) + np.uint32(1)',
    'code.astype(jnp.uint32)',
    f'{_TABLE}test_the_hash_equals_a_hash_in_plain_python',
  ),
  Mutant(
    'the last slice of the table of prefixes is incomplete',
    'tiger_jax/models/prefixes.py',
    'self.num_rows + max(self.level_sizes)',
    'self.num_rows',
    f'{_TABLE}test_the_extensions_of_a_prefix_are_the_embeddings_of_longer_prefixes',
  ),
  Mutant(
    'the slices of all levels have the size of the first level',
    'tiger_jax/models/prefixes.py',
    'size = (self.level_sizes[level], self.dim)',
    'size = (self.level_sizes[0], self.dim)',
    f'{_TABLE}test_the_extensions_of_a_prefix_are_the_embeddings_of_longer_prefixes',
  ),
  Mutant(
    'prefixes add nothing to the logits',
    'tiger_jax/models/tiger.py',
    'if self.config.prefix_heads and level:',
    'if self.config.prefix_heads and level > 3:',
    f'{_NETWORK}test_a_prefix_is_the_output_weight_of_its_last_code',
  ),
  Mutant(
    'prefixes add to the logits of the first code',
    'tiger_jax/models/tiger.py',
    'if self.config.prefix_heads and level:',
    'if self.config.prefix_heads:',
    f'{_NETWORK}test_the_first_code_has_no_output_weight_of_a_prefix',
  ),
  Mutant(
    'the search does not extend the hash of a beam',
    'tiger_jax/models/tiger.py',
    'prefix_hash = extend_hash(prefix_hash, previous.reshape(-1))',
    'extend_hash(prefix_hash, previous.reshape(-1))',
    f'{_NETWORK}test_decoding_step_by_step_equals_one_pass',
  ),
  Mutant(
    'the training does not extend the hash of a target',
    'tiger_jax/models/tiger.py',
    'prefix_hash = extend_hash(prefix_hash, targets[:, :, level])',
    'extend_hash(prefix_hash, targets[:, :, level])',
    f'{_NETWORK}test_decoding_step_by_step_equals_one_pass',
  ),
  Mutant(
    'the encoder does not add prefix embeddings',
    'tiger_jax/models/tiger.py',
    'x += self._embed_prefixes(codes[batch.history], deterministic)',
    'self._embed_prefixes(codes[batch.history], deterministic)',
    f'{_NETWORK}test_a_zero_prefix_table_changes_nothing',
  ),
  Mutant(
    'dropout omits single entries of prefix embeddings',
    'tiger_jax/models/tiger.py',
    'self.prefix_dropout(jnp.ones_like(x[..., :1]), deterministic)',
    'self.prefix_dropout(jnp.ones_like(x), deterministic)',
    f'{_NETWORK}test_dropout_omits_whole_prefixes_and_keeps_their_mean',
  ),
  Mutant(
    'dropout omits all prefixes of an item together',
    'tiger_jax/models/tiger.py',
    'self.prefix_dropout(jnp.ones_like(x[..., :1]), deterministic)',
    'self.prefix_dropout(jnp.ones_like(x[..., :1, :1]), deterministic)',
    f'{_NETWORK}test_dropout_omits_whole_prefixes_and_keeps_their_mean',
  ),
  Mutant(
    'no dropout of prefix embeddings',
    'tiger_jax/models/tiger.py',
    'self.prefix_dropout(jnp.ones_like(x[..., :1]), deterministic)',
    'self.prefix_dropout(jnp.ones_like(x[..., :1]), True)',
    f'{_NETWORK}test_dropout_omits_whole_prefixes_and_keeps_their_mean',
  ),
  Mutant(
    'prefix embeddings have the dropout rate of all other layers',
    'tiger_jax/models/tiger.py',
    'self.prefix_dropout = Dropout(c.prefix_dropout)',
    'self.prefix_dropout = Dropout(c.dropout)',
    f'{_NETWORK}test_dropout_omits_whole_prefixes_and_keeps_their_mean',
  ),
  Mutant(
    'tied prefix embeddings are not multiplied by their gain',
    'tiger_jax/models/tiger.py',
    'x = self.prefix_embedding(codes) * self.gain',
    'x = self.prefix_embedding(codes)',
    f'{_NETWORK}test_every_prefix_has_the_row_of_its_hash[True]',
  ),
  Mutant(
    'tied prefix embeddings are initialized like untied ones',
    'tiger_jax/models/tiger.py',
    'nn.initializers.normal(0.1 / self.gain)',
    'nn.initializers.normal(0.1)',
    f'{_SCALES}[tied_prefixes]',
  ),
  Mutant(
    'prefix embeddings are initialized with the scale of code embeddings',
    'tiger_jax/models/tiger.py',
    'nn.initializers.normal(0.1 / self.gain)',
    'nn.initializers.normal(1 / self.gain)',
    f'{_SCALES}[prefixes]',
  ),
]

MUTANTS = [*_LOSSES, *_SEARCHES, *_RECENCY, *_PREFIXES]
