"""Faults of the networks, their losses, the optimizer and the step."""

from tests.mutants.mutant import Mutant

_NETWORKS = 'tests/models/test_dropout_and_scale.py::'
_PLACES = f'{_NETWORKS}test_dropout_is_applied_at_every_place'
_SCALES = f'{_NETWORKS}test_initial_parameters_have_the_expected_scale'
_INPUTS = f'{_NETWORKS}test_first_layer_inputs_have_the_expected_scale'
_LINEAR_TESTS = 'tests/models/test_linear.py::'
_TIGER = 'tests/recommenders/test_tiger_task.py::'

_LOSSES = [
  Mutant(
    'padding is a target of TIGER',
    'tiger_jax/recommenders/tiger_task.py',
    'weight = jnp.asarray(target >= 0, jnp.float32)',
    'weight = jnp.ones(target.shape, jnp.float32)',
    f'{_TIGER}test_the_loss_is_the_mean_over_targets_and_levels',
  ),
  Mutant(
    'the cross-entropy includes rows without weight',
    'tiger_jax/models/cross_entropy.py',
    '(x * weight).sum() / total for x in per_level',
    'x.sum() / total for x in per_level',
    'tests/models/test_cross_entropy.py::test_cross_entropy_equals_slow_numpy',
  ),
  Mutant(
    'the loss covers only the first level',
    'tiger_jax/recommenders/tiger_task.py',
    'loss = levels.mean()',
    'loss = levels[0]',
    f'{_TIGER}test_the_loss_is_the_mean_over_targets_and_levels',
  ),
  Mutant(
    'the loss of DSI does not include indexing',
    'tiger_jax/recommenders/dsi_task.py',
    'return loss + indexing, metrics, aux',
    'return loss, metrics, aux',
    'tests/models/test_dsi.py::test_dsi_learns_to_index_items_by_their_text',
  ),
  Mutant(
    'DSI indexes items by the text of other items',
    'tiger_jax/recommenders/dsi_task.py',
    'bound.index(codes, items, tables.vectors[items], False)',
    'bound.index(codes, items, tables.vectors[items[::-1]], False)',
    'tests/models/test_dsi.py::test_dsi_learns_to_index_items_by_their_text',
  ),
  Mutant(
    'a target has 25 negatives instead of 256',
    'tiger_jax/recommenders/item_task.py',
    'num_negatives: int = 256',
    'num_negatives: int = 25',
    'tests/recommenders/test_item_task.py::'
    'test_equal_scores_have_the_loss_of_a_uniform_guess',
  ),
  Mutant(
    'the target is among the negatives',
    'tiger_jax/recommenders/item_task.py',
    'is_target = negatives[:, None] == targets[:, :, None]',
    'is_target = negatives[:, None] < 0 * targets[:, :, None]',
    'tests/recommenders/test_item_task.py::'
    'test_sampled_softmax_excludes_the_target_from_negatives',
  ),
  Mutant(
    'items of the sequence are used as negatives',
    'tiger_jax/recommenders/item_task.py',
    'jnp.where(in_sequence, 0.0, jax.nn.softplus(negative_logit))',
    'jax.nn.softplus(negative_logit)',
    'tests/recommenders/test_item_task.py::'
    'test_bce_ignores_negatives_in_the_sequence',
  ),
  Mutant(
    'padding is a target of models that score items',
    'tiger_jax/recommenders/item_task.py',
    'return (losses * weight).sum() / num_targets, {}, ()',
    'return losses.mean(), {}, ()',
    'tests/recommenders/test_item_task.py::'
    'test_sampled_losses_are_the_mean_over_targets',
  ),
]

_DROPOUT = [
  Mutant(
    'no dropout of attention weights',
    'tiger_jax/models/transformer.py',
    '    weights = self.weights_dropout(weights, deterministic)\n',
    '',
    f'{_PLACES}[tiger]',
  ),
  Mutant(
    "no dropout of the MLP's hidden units",
    'tiger_jax/models/transformer.py',
    '    hidden = Dropout(self.dropout)(hidden, deterministic)\n',
    '',
    f'{_PLACES}[sasrec]',
  ),
  Mutant(
    "no dropout of the decoder's residuals, input and output",
    'tiger_jax/models/transformer.py',
    'self.drop = Dropout(self.dropout)',
    'self.drop = Dropout(0.0)',
    f'{_PLACES}[tiger]',
  ),
  Mutant(
    "no dropout of the encoder's residuals, input and output",
    'tiger_jax/models/transformer.py',
    '    drop = Dropout(self.dropout)\n',
    '    drop = Dropout(0.0)\n',
    f'{_PLACES}[tiger]',
  ),
  Mutant(
    "no dropout of the encoder's output",
    'tiger_jax/models/transformer.py',
    "return drop(_norm(self.dtype, 'final_norm')(x), deterministic)",
    "return _norm(self.dtype, 'final_norm')(x)",
    f'{_PLACES}[dsi]',
  ),
  Mutant(
    "no dropout of the decoder's input",
    'tiger_jax/models/transformer.py',
    '    x = self.drop(x, deterministic)\n',
    '',
    f'{_PLACES}[tied]',
  ),
  Mutant(
    'no dropout of the residuals of SASRec',
    'tiger_jax/models/baselines/sequence_encoder.py',
    'drop = Dropout(c.dropout)',
    'drop = Dropout(0.0)',
    f'{_PLACES}[bert4rec]',
  ),
  Mutant(
    'no dropout between the layers of GRU4Rec',
    'tiger_jax/models/baselines/gru4rec.py',
    'layer(self.drop(x, deterministic))',
    'layer(x)',
    f'{_PLACES}[gru4rec]',
  ),
  Mutant(
    'no dropout of the two towers',
    'tiger_jax/models/baselines/two_tower.py',
    'self.user_out(self.drop(hidden, deterministic))',
    'self.user_out(hidden)',
    f'{_PLACES}[two_tower]',
  ),
  Mutant(
    'models that score items are trained without dropout',
    'tiger_jax/models/baselines/item_model.py',
    'return self.queries(features, batch, False), next_items(batch)',
    'return self.queries(features, batch, True), next_items(batch)',
    f'{_PLACES}[vq_rec]',
  ),
  Mutant(
    'TIGER with a causal encoder is trained without dropout',
    'tiger_jax/recommenders/tiger_task.py',
    'score(codes, batch, deterministic=False, scored=scored)',
    'score(codes, batch, deterministic=True, scored=scored)',
    f'{_PLACES}[causal]',
  ),
  Mutant(
    'dropout does not scale up the remaining values',
    'tiger_jax/models/dropout.py',
    'jnp.where(keep, x / (1 - self.rate), 0)',
    'jnp.where(keep, x, 0)',
    'tests/models/test_dropout.py::'
    'test_dropout_zeroes_at_its_rate_and_keeps_the_mean[0.5]',
  ),
]

_LINEAR = [
  Mutant(
    'the input of a linear layer keeps its axes',
    'tiger_jax/models/linear.py',
    'x.reshape(-1, matrix[0])',
    'x.reshape(*outer, matrix[0])',
    f'{_LINEAR_TESTS}test_every_product_of_the_gradient_has_two_matrices',
  ),
  Mutant(
    'the gradient of a kernel with more rows than columns is not transposed',
    'tiger_jax/models/linear.py',
    'if matrix[0] > matrix[1]:',
    'if not matrix:',
    f'{_LINEAR_TESTS}test_every_product_of_the_gradient_has_two_matrices',
  ),
  Mutant(
    'the fan-in of a kernel includes an axis of the output',
    'tiger_jax/models/linear.py',
    'self.kernel_init(rng, matrix)',
    'self.kernel_init(rng, shape)',
    f'{_LINEAR_TESTS}test_values_and_gradients_are_those_of_dense_general',
  ),
]

_SCALE = [
  Mutant(
    'SASRec does not multiply embeddings by sqrt(d_model)',
    'tiger_jax/models/baselines/sequence_encoder.py',
    'x = x * c.d_model**0.5 + positions[None, :length]',
    'x = x + positions[None, :length]',
    f'{_INPUTS}[sasrec]',
  ),
  Mutant(
    'tied embeddings are not multiplied by their gain',
    'tiger_jax/models/tiger.py',
    'return self.code_embedding(codes + offsets) * self.gain',
    'return self.code_embedding(codes + offsets)',
    f'{_INPUTS}[tied]',
  ),
  Mutant(
    'the mean item vector is not added to the output of the user tower',
    'tiger_jax/models/baselines/two_tower.py',
    'return self.user_out(self.drop(hidden, deterministic)) + mean',
    'return self.user_out(self.drop(hidden, deterministic))',
    'tests/models/baselines/test_item_models.py::test_two_tower_query_equals_numpy',
  ),
  Mutant(
    'query kernels are not initialized with the scale 1/head_dim',
    'tiger_jax/models/transformer.py',
    'self.query = project(1.0 / self.head_dim)',
    'self.query = project(1.0)',
    f'{_SCALES}[dsi]',
  ),
  Mutant(
    'tied embeddings are initialized with the scale of untied embeddings',
    'tiger_jax/models/tiger.py',
    'init = nn.initializers.normal(1 / self.gain)',
    'init = nn.initializers.normal(1.0)',
    f'{_SCALES}[tied]',
  ),
  Mutant(
    'the output layers of the MLPs of SASRec do not start at zero',
    'tiger_jax/models/baselines/sequence_encoder.py',
    '        dtype,\n        out_init=nn.initializers.zeros,\n'
    "        name=f'mlp_{layer}',",
    "        dtype,\n        name=f'mlp_{layer}',",
    f'{_SCALES}[sasrec]',
  ),
  Mutant(
    'item embeddings start with standard deviation 1, not 0.02',
    'tiger_jax/models/baselines/item_model.py',
    'embedding_init=nn.initializers.normal(0.02)',
    'embedding_init=nn.initializers.normal(1.0)',
    f'{_SCALES}[gru4rec]',
  ),
]

_ATTENTION = [
  Mutant(
    'tokens attend to padding',
    'tiger_jax/models/baselines/sequence_encoder.py',
    'visible = real[:, None]',
    'visible = jnp.ones_like(real)[:, None]',
    'tests/models/baselines/test_item_models.py::test_padding_changes_nothing[bert4rec]',
  ),
  Mutant(
    'SASRec attends to later items',
    'tiger_jax/models/baselines/sequence_encoder.py',
    'np.tri(length, dtype=bool)',
    'np.ones((length, length), bool)',
    'tests/models/baselines/test_item_models.py::'
    'test_one_pass_equals_one_pass_per_prefix[sasrec]',
  ),
  Mutant(
    "TIGER's causal encoder attends to later items",
    'tiger_jax/models/tiger.py',
    'jnp.asarray(item[None, :] <= item[:, None])[None]',
    'jnp.asarray(item[None, :] <= item[:, None] + 1)[None]',
    f'{_TIGER}test_no_target_depends_on_later_items',
  ),
  Mutant(
    'each target sees itself in the encoded history',
    'tiger_jax/models/tiger.py',
    'visible = jnp.asarray(item[None, :] <= last[:, None])',
    'visible = jnp.asarray(item[None, :] <= last[:, None] + 1)',
    f'{_TIGER}test_no_target_depends_on_later_items',
  ),
  Mutant(
    'the position buckets before and after a query are swapped',
    'tiger_jax/models/relative_position.py',
    'first_bucket = np.where(distance > 0, num_buckets, 0)',
    'first_bucket = np.where(distance < 0, num_buckets, 0)',
    'tests/models/test_transformer.py::test_buckets_equal_the_scalar_rule',
  ),
  Mutant(
    'the cross-attention has no mask',
    'tiger_jax/models/transformer.py',
    '        mask,\n        cross_bias,\n',
    '        jnp.ones_like(mask),\n        cross_bias,\n',
    'tests/models/test_transformer.py::test_decoder_equals_slow_numpy',
  ),
  Mutant(
    'an unknown user has a user token',
    'tiger_jax/models/tiger.py',
    'mask = jnp.concatenate([batch.user[:, None] >= 0, mask], 1)',
    'mask = jnp.concatenate([batch.user[:, None] >= -1, mask], 1)',
    'tests/models/test_tiger_model.py::test_an_unknown_user_has_no_token',
  ),
  Mutant(
    'all levels share the embeddings of their codes',
    'tiger_jax/models/tiger.py',
    'return np.cumsum((0, *self.level_sizes[:-1]))',
    'return np.zeros(len(self.level_sizes), np.int64)',
    'tests/models/test_tiger_model.py::test_every_level_has_its_own_embeddings',
  ),
]

_TRAINING = [
  Mutant(
    'every step uses the same random key',
    'tiger_jax/training/step.py',
    'rng = jax.random.fold_in(jax.random.key(seed), state.step)',
    'rng = jax.random.key(seed)',
    'tests/training/test_step.py::test_every_step_has_new_random_draws[1]',
  ),
  Mutant(
    'the loss and after_update use the same random key',
    'tiger_jax/training/step.py',
    'rng_loss, rng_update = jax.random.split(rng)',
    'rng_loss = rng_update = jax.random.split(rng)[0]',
    'tests/training/test_step.py::test_every_step_has_new_random_draws[1]',
  ),
  Mutant(
    'the norm of the update is logged as the gradient norm',
    'tiger_jax/training/step.py',
    'norm = optax.tree.norm(gradients)',
    'norm = optax.tree.norm(updates)',
    'tests/training/test_step.py::test_every_step_has_new_random_draws[1]',
  ),
  Mutant(
    'each gradient array is clipped separately',
    'tiger_jax/training/optimizer.py',
    'optax.clip_by_global_norm(config.clip_norm)',
    'optax.clip_by_block_rms(config.clip_norm)',
    'tests/training/test_optimizer.py::'
    'test_gradients_are_clipped_by_their_global_norm[adagrad]',
  ),
  Mutant(
    'the Adafactor rate decays from the first step',
    'tiger_jax/training/optimizer.py',
    'rate * jnp.sqrt(flat / jnp.maximum(step, flat))',
    'rate * jnp.sqrt(flat / (step + flat))',
    'tests/training/test_optimizer.py::'
    'test_adafactor_rate_is_constant_then_inverse_square_root',
  ),
  Mutant(
    'the AdamW rate starts at its peak',
    'tiger_jax/training/optimizer.py',
    '0.0 if warmup else rate, rate, warmup,',
    'rate, rate, warmup,',
    'tests/training/test_optimizer.py::'
    'test_adamw_warms_up_and_decays_as_a_cosine',
  ),
  Mutant(
    'a LookUp task does not call the after_update of its inner task',
    'tiger_jax/training/look_up.py',
    'if isinstance(task, UpdatingTask):',
    'if not isinstance(task, Task):',
    'tests/stages/test_selection.py',
  ),
]

MUTANTS = [*_LOSSES, *_DROPOUT, *_LINEAR, *_SCALE, *_ATTENTION, *_TRAINING]
