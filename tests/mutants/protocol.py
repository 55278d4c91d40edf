"""Faults of the protocol: training targets, model selection and metrics."""

from tests.mutants.mutant import Mutant

_TRAINING = 'tiger_jax/stages/training.py'
_EVALUATION = 'tiger_jax/stages/evaluation.py'
_SESSION = 'tiger_jax/recommenders/session.py'
_REPLICAS = 'tiger_jax/training/replicas.py'
_SELECTION = 'tests/stages/test_selection.py'
_PICKED = f'{_SELECTION}::test_validation_ndcg_selects_the_checkpoint'
_SEEDS = (
  f'{_SELECTION}::test_validation_ndcg_selects_the_second_of_two_replicas'
)
_POPULARITY = (
  'tests/stages/test_evaluation.py::'
  'test_popularity_metrics_equal_loops_on_every_split'
)
_BY_USER = (
  'tests/evaluation/test_measure.py::'
  'test_metrics_of_popularity_equal_a_loop_over_users'
)
_TARGETS = (
  'tests/recommenders/test_session.py::'
  'test_training_targets_are_all_events_except_held_out_ones'
)

MUTANTS = (
  Mutant(
    'the best checkpoint is selected on the test split',
    _TRAINING,
    "split(session.inputs.dataset, 'validation')",
    "split(session.inputs.dataset, 'test')",
    _PICKED,
  ),
  Mutant(
    'test metrics are measured on the validation split',
    _EVALUATION,
    'split_users(session, name)',
    "split_users(session, 'validation')",
    _POPULARITY,
  ),
  Mutant(
    'the best possible recall is that of the validation split',
    _EVALUATION,
    "best_possible_recall(dataset, split(dataset, 'test'), 10)",
    "best_possible_recall(dataset, split(dataset, 'validation'), 10)",
    _POPULARITY,
  ),
  Mutant(
    'training on every prefix includes validation targets',
    _SESSION,
    'return splits.sequences(dataset, config.model.max_history)',
    'examples = splits.sequences(dataset, config.model.max_history)\n'
    '    return examples._replace(end=examples.end + 1)',
    _TARGETS,
  ),
  Mutant(
    'training on single targets uses validation targets',
    _SESSION,
    "return splits.split(dataset, 'train')",
    "return splits.split(dataset, 'validation')",
    _TARGETS,
  ),
  Mutant(
    'masked evaluation does not exclude seen items',
    'tiger_jax/evaluation/measure.py',
    'exclude_seen=True',
    'exclude_seen=False',
    _BY_USER,
  ),
  Mutant(
    'masked evaluation also excludes the target',
    'tiger_jax/evaluation/ranking.py',
    'dataset.history[start:end].tolist()',
    'dataset.history[start : end + 1].tolist()',
    _BY_USER,
  ),
  Mutant(
    'masked metrics are measured on the validation split',
    _EVALUATION,
    "if name == 'test':\n      values['test_masked']",
    "if name == 'validation':\n      values['test_masked']",
    _POPULARITY,
  ),
  Mutant(
    'the last checkpoint is evaluated instead of the best',
    _TRAINING,
    'saved.restore_params(saved.by_metric(), like, session.mesh)',
    'saved.restore_params(saved.steps()[::-1], like, session.mesh)',
    _PICKED,
  ),
  Mutant(
    'the best checkpoint is selected by recall',
    _TRAINING,
    "_BEST = 'ndcg@10'",
    "_BEST = 'recall@10'",
    _PICKED,
  ),
  Mutant(
    'the checkpoint with the smallest metric is selected',
    'tiger_jax/checkpoints/retention.py',
    '(math.isnan(values[step]), -values[step], step)',
    '(math.isnan(values[step]), values[step], step)',
    'tests/checkpoints/test_retention.py::test_the_best_checkpoint_is_kept',
  ),
  Mutant(
    'the best checkpoint is removed if it is not among the latest',
    'tiger_jax/checkpoints/checkpoints.py',
    'best = self._ranked()[:1]',
    'best = self._ranked()[:0]',
    'tests/checkpoints/test_retention.py::test_the_best_checkpoint_is_kept',
  ),
  Mutant(
    'the best replica is always the first',
    _TRAINING,
    'return sharding.put(params, shardings), best',
    'return sharding.put(params, shardings), 0',
    _SEEDS,
  ),
  Mutant(
    'the parameters of the first replica are used for every replica',
    _REPLICAS,
    'lambda x: x[index], params',
    'lambda x: x[0], params',
    _SEEDS,
  ),
  Mutant(
    'validation metrics are the maximum over replicas, not the mean',
    _TRAINING,
    'replicas.aggregate(np.mean, values)',
    'replicas.aggregate(max, values)',
    _SEEDS,
  ),
  Mutant(
    'all replicas have the same seed',
    _REPLICAS,
    '(seed + i) % 2**32',
    'seed % 2**32',
    _SEEDS,
  ),
  Mutant(
    'the variance over n replicas is divided by n, not by n - 1',
    _EVALUATION,
    'np.std(values, ddof=1)',
    'np.std(values, ddof=0)',
    _SEEDS,
  ),
  Mutant(
    'validation uses the first users instead of a random sample',
    'tiger_jax/evaluation/ranking.py',
    'examples.at(np.sort(order[:num]))',
    'examples.at(np.arange(min(num, len(order))))',
    'tests/evaluation/test_ranking.py::test_users_are_drawn_at_random',
  ),
  Mutant(
    'the mean number of targets is twice the correct one',
    'tiger_jax/data/batches.py',
    'float(splits.history_lengths(examples).mean())',
    '2 * float(splits.history_lengths(examples).mean())',
    'tests/recommenders/test_session.py::'
    'test_mean_targets_gives_all_targets_equal_weight',
  ),
  Mutant(
    'popularity counts held-out events',
    'tiger_jax/data/splits.py',
    'items = dataset.history[training_positions(dataset)]',
    'items = dataset.history',
    _BY_USER,
  ),
  Mutant(
    'the quantizer is also fitted to unseen items',
    'tiger_jax/stages/semantic_ids.py',
    '_fit(c, config.seed, vectors, folder, writer)',
    '_fit(c, config.seed, own_shop.embeddings, folder, writer)',
    'tests/stages/test_semantic_ids.py::test_unseen_items_get_ids_like_new_items',
  ),
  Mutant(
    'the weights of an ensemble are chosen on the test split',
    'tiger_jax/experiments/ensemble.py',
    '_weights(first, other, validation)',
    '_weights(first, other, test)',
    'tests/experiments/test_rules.py::'
    'test_the_weights_of_an_ensemble_are_chosen_on_validation',
  ),
  Mutant(
    'the masked metrics of an ensemble include the history',
    'tiger_jax/experiments/ensemble.py',
    'rank(trained, test, _DEPTH, masked)',
    'rank(trained, test, _DEPTH, search)',
    'tests/experiments/test_rules.py::'
    'test_an_ensemble_combines_the_first_model_with_each_other_model',
  ),
  Mutant(
    'a changed number or list is not in the fingerprint',
    'tiger_jax/config/recorded.py',
    'elif value != field.metadata.get(BEFORE, base):',
    'elif isinstance(value, str) and value != base:',
    'tests/config/test_fingerprints.py',
  ),
  Mutant(
    'fingerprints compare a nested section with the defaults of its class',
    'tiger_jax/config/recorded.py',
    'identity(value, base)',
    'identity(value)',
    'tests/config/test_fingerprints.py',
  ),
  Mutant(
    'a new field is in the fingerprint even if it keeps the old behavior',
    'tiger_jax/config/recorded.py',
    'elif value != field.metadata.get(BEFORE, base):',
    'elif value != base:',
    'tests/config/test_recorded.py',
  ),
)
