"""Faults of the quantizers: losses, assignment, dead codes and collisions."""

from tests.mutants.mutant import Mutant

_TASK = 'tests/semantic_ids/quantizers/test_autoencoder_task.py::'
_KMEANS = 'tests/semantic_ids/quantizers/test_kmeans.py::'

_LOSSES = [
  Mutant(
    'beta multiplies the codebook term, not the commitment term',
    'tiger_jax/semantic_ids/quantizers/autoencoder_task.py',
    '    commitment = self._config.beta * terms.commitment\n'
    '    loss = terms.reconstruction + terms.codebook + commitment\n',
    '    codebook = self._config.beta * terms.codebook\n'
    '    loss = terms.reconstruction + codebook + terms.commitment\n',
    f'{_TASK}test_beta_is_the_weight_of_the_commitment_term',
  ),
  Mutant(
    'residuals pass gradients to earlier codebooks',
    'tiger_jax/semantic_ids/quantizers/residual.py',
    'residual = residual - lax.stop_gradient(codebook[codes[-1]])',
    'residual = residual - codebook[codes[-1]]',
    'tests/semantic_ids/quantizers/test_residual.py::test_residuals_pass_no_gradient_to_codebooks',
  ),
  Mutant(
    'the codebook term has a gradient for the encoder',
    'tiger_jax/semantic_ids/quantizers/autoencoder_task.py',
    'codebook=total(lax.stop_gradient, keep)',
    'codebook=total(keep, keep)',
    f'{_TASK}test_each_loss_term_moves_only_its_own_parameters',
  ),
  Mutant(
    'the decoder passes no gradient to the encoder',
    'tiger_jax/semantic_ids/quantizers/autoencoder_task.py',
    'network.decode(z + lax.stop_gradient(quantized.quantized - z))',
    'network.decode(lax.stop_gradient(quantized.quantized))',
    f'{_TASK}test_each_loss_term_moves_only_its_own_parameters',
  ),
  Mutant(
    'the reconstruction is compared with embeddings before standardization',
    'tiger_jax/semantic_ids/quantizers/autoencoder_task.py',
    'reconstruction=distance(network.standardize(x), x_hat)',
    'reconstruction=distance(x, x_hat)',
    f'{_TASK}test_loss_equals_numpy',
  ),
  Mutant(
    'embeddings are centered but not scaled',
    'tiger_jax/semantic_ids/quantizers/autoencoder.py',
    'return (x - mean[None]) / std[None]',
    'return x - mean[None]',
    f'{_TASK}test_loss_equals_numpy',
  ),
]

_ASSIGNMENT = [
  Mutant(
    'the last of several nearest codes is selected, not the first',
    'tiger_jax/semantic_ids/quantizers/kmeans.py',
    '  row = jnp.min(\n'
    '    jnp.where(scores == smallest[:, None], rows, len(centroids) - 1), '
    'axis=-1\n  )\n',
    '  row = jnp.max(\n'
    '    jnp.where(scores == smallest[:, None], rows, 0), axis=-1\n  )\n',
    f'{_KMEANS}test_ties_go_to_the_first_centroid',
  ),
  Mutant(
    'the nearest code is the one with the largest dot product',
    'tiger_jax/semantic_ids/quantizers/kmeans.py',
    'return jnp.sum(centroids**2, axis=-1)[None] - 2 * products',
    'return -2 * products',
    f'{_KMEANS}test_nearest_equals_numpy',
  ),
  Mutant(
    'every level quantizes the vector instead of the residual',
    'tiger_jax/semantic_ids/quantizers/residual.py',
    'codes.append(kmeans.nearest(residual, codebook)[0])',
    'codes.append(kmeans.nearest(x, codebook)[0])',
    'tests/semantic_ids/quantizers/test_residual.py::test_quantize_equals_slow_numpy',
  ),
  Mutant(
    'all codebooks are fitted to the vectors instead of the residuals',
    'tiger_jax/semantic_ids/quantizers/residual.py',
    '    x = _residual(x, codebook)\n',
    '',
    'tests/semantic_ids/quantizers/test_residual.py::test_planted_codebooks_are_recovered',
  ),
  Mutant(
    'distances are computed for the vector, not for its residual',
    'tiger_jax/semantic_ids/quantizers/residual.py',
    '    x = x - codebook[code]\n',
    '    del code\n',
    'tests/semantic_ids/quantizers/test_rq_kmeans.py::'
    'test_distances_depend_on_the_given_codes',
  ),
  Mutant(
    'all parts of a vector use the codebook of the first part',
    'tiger_jax/semantic_ids/quantizers/product.py',
    '[kmeans.nearest(split[:, i], c)[0] for i, c in enumerate(codebooks)]',
    '[kmeans.nearest(split[:, i], codebooks[0])[0] for i in '
    'range(split.shape[1])]',
    'tests/semantic_ids/quantizers/test_product.py::test_quantize_equals_slow_numpy',
  ),
  Mutant(
    'the first plane sets the highest bit of a hash code',
    'tiger_jax/semantic_ids/quantizers/lsh.py',
    '* 2 ** jnp.arange(len(normals))[None]',
    '* 2 ** jnp.arange(len(normals))[::-1][None]',
    'tests/semantic_ids/quantizers/test_lsh.py::test_codes_equal_slow_numpy',
  ),
]

_CODEBOOKS = [
  Mutant(
    'k-means++ takes the first candidate, not the best',
    'tiger_jax/semantic_ids/quantizers/kmeans.py',
    'best = jnp.argmin(jnp.sum(remaining, axis=-1))',
    'best = 0',
    f'{_KMEANS}test_several_candidates_per_seed_find_more_clusters',
  ),
  Mutant(
    'k-means++ seeds are drawn uniformly',
    'tiger_jax/semantic_ids/quantizers/kmeans.py',
    'weights = jnp.where(jnp.isinf(distances), 1, distances)',
    'weights = jnp.where(distances > 0, 1.0, 0.0)',
    f'{_KMEANS}test_several_candidates_per_seed_find_more_clusters',
  ),
  Mutant(
    'an empty cluster keeps its centroid',
    'tiger_jax/semantic_ids/quantizers/kmeans.py',
    'means = jnp.where(empty[:, None], refill, means)',
    'means = jnp.where(empty[:, None], centroids, means)',
    f'{_KMEANS}test_one_iteration_equals_numpy',
  ),
  Mutant(
    'a code counts as dead one batch before the end of an epoch',
    'tiger_jax/semantic_ids/quantizers/autoencoder_task.py',
    'dead = (idle >= steps_per_epoch) & epoch_ends',
    'dead = (idle >= steps_per_epoch - 1) & epoch_ends',
    'tests/semantic_ids/quantizers/test_dead_codes.py::'
    'test_code_chosen_in_one_batch_per_epoch_is_kept',
  ),
  Mutant(
    'choosing a code does not reset its idle count',
    'tiger_jax/semantic_ids/quantizers/autoencoder_task.py',
    '      idle = jnp.where(_chosen(codes, len(idle)), 0, idle)\n',
    '',
    'tests/semantic_ids/quantizers/test_dead_codes.py::'
    'test_code_chosen_in_one_batch_per_epoch_is_kept',
  ),
  Mutant(
    'all dead codes are restarted at the same item',
    'tiger_jax/semantic_ids/quantizers/autoencoder_task.py',
    'fresh = vectors[rows[jnp.arange(len(dead)) % len(rows)]]',
    'fresh = vectors[rows[jnp.arange(len(dead)) % 1]]',
    'tests/semantic_ids/quantizers/test_dead_codes.py::test_restart_revives_dead_codes',
  ),
  Mutant(
    'every epoch has the same order of items',
    'tiger_jax/semantic_ids/item_batches.py',
    'np.random.default_rng((self._seed, epoch)).shuffle(rows)',
    'np.random.default_rng((self._seed, 0)).shuffle(rows)',
    'tests/semantic_ids/test_item_batches.py::'
    'test_epochs_are_permutations_and_differ',
  ),
  Mutant(
    'a constant dimension is divided by its standard deviation',
    'tiger_jax/semantic_ids/item_batches.py',
    'std[std <= 1e-6 * np.abs(mean)] = 1',
    'std[std == 0] = 1',
    'tests/semantic_ids/test_item_batches.py::'
    'test_std_of_a_constant_dimension_is_one',
  ),
]

_COLLISIONS = [
  Mutant(
    'an item moves to a code that is no longer free',
    'tiger_jax/semantic_ids/collisions.py',
    '        free[code] = False\n',
    '        pass\n',
    'tests/semantic_ids/test_collisions.py::'
    'test_duplicates_fill_all_existing_ids',
  ),
  Mutant(
    'an item moves to the first free code, not the nearest',
    'tiger_jax/semantic_ids/collisions.py',
    'free_distances = np.where(free, distances(branch), np.inf)',
    'free_distances = np.where(free, np.minimum(distances(branch), 0), np.inf)',
    'tests/semantic_ids/test_collisions.py::test_nearest_free_equals_brute_force',
  ),
  Mutant(
    'only the items that collide can move',
    'tiger_jax/semantic_ids/collisions.py',
    'rows = np.flatnonzero(changes[branch])',
    'rows = np.flatnonzero(group_counts[group] > 1)',
    'tests/semantic_ids/test_optimal.py::'
    'test_the_total_distance_is_the_smallest_of_all_permutations',
  ),
  Mutant(
    'the surplus items move in the order of their rows',
    'tiger_jax/semantic_ids/collisions.py',
    'for _, row in sorted(surplus)]',
    'for _, row in surplus]',
    'tests/semantic_ids/test_optimal.py::'
    'test_the_surplus_items_go_to_the_nearest_free_codes',
  ),
  Mutant(
    'the collision codes of new items start at 0 again',
    'tiger_jax/semantic_ids/collisions.py',
    'collision_code[num_old:] = start[new] + _ranks(new, len(counts))',
    'collision_code[num_old:] = _ranks(new, len(counts))',
    'tests/semantic_ids/test_collisions.py::'
    'test_new_items_get_collision_codes_above_the_largest',
  ),
]

MUTANTS = [*_LOSSES, *_ASSIGNMENT, *_CODEBOOKS, *_COLLISIONS]
