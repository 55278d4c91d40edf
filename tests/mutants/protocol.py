"""Faults of the protocol: training targets, model selection and metrics."""

from tests.mutants.mutant import Mutant

_LEARNING = 'tiger_jax/stages/learning.py'
_STAGES = 'tiger_jax/stages/stages.py'
_RECOMMENDERS = 'tiger_jax/recommenders/registry.py'
_SELECTION = 'tests/test_selection.py'
_PICKED = f'{_SELECTION}::test_the_checkpoint_is_picked_by_ndcg_of_validation'
_SEEDS = f'{_SELECTION}::test_the_second_of_two_seeds_is_better'
_RATES = f'{_SELECTION}::test_the_second_of_two_rates_is_better'
_POPULARITY = 'tests/stages/test_stages.py::test_popularity_on_every_split'
_LEARNED = 'tests/stages/test_learning.py'

MUTANTS = (
  Mutant(
    'checkpoints are picked by the test split',
    _LEARNING,
    "some(split(dataset, 'validation'), c.evaluate_users, config.seed)",
    "some(split(dataset, 'test'), c.evaluate_users, config.seed)",
    _PICKED,
  ),
  Mutant(
    'the test row is measured on validation',
    _STAGES,
    'split(dataset, name), config.evaluation.num_users, config.seed',
    "split(dataset, 'validation'), config.evaluation.num_users, config.seed",
    _POPULARITY,
  ),
  Mutant(
    'the best possible recall is that of validation',
    _STAGES,
    "best_possible_recall(dataset, split(dataset, 'test'), 10)",
    "best_possible_recall(dataset, split(dataset, 'validation'), 10)",
    _POPULARITY,
  ),
  Mutant(
    'training on every prefix includes validation targets',
    _RECOMMENDERS,
    'return sequences(dataset, config.model.max_history)',
    'examples = sequences(dataset, config.model.max_history)\n'
    '    return examples._replace(end=examples.end + 1)',
    f'{_LEARNED}::test_training_targets_are_all_events_but_the_held_out',
  ),
  Mutant(
    'training on single targets uses validation targets',
    _RECOMMENDERS,
    "return split(dataset, 'train')",
    "return split(dataset, 'validation')",
    f'{_LEARNED}::test_training_targets_are_all_events_but_the_held_out',
  ),
  Mutant(
    'masked evaluation masks nothing',
    _LEARNING,
    'return answer(batch, k, owned(material, examples, batch))',
    'return answer(batch, k)',
    f'{_LEARNED}::test_popularity_user_by_user',
  ),
  Mutant(
    'masked evaluation masks the target too',
    _LEARNING,
    'material.dataset.history[start:end].tolist()',
    'material.dataset.history[start : end + 1].tolist()',
    f'{_LEARNED}::test_popularity_user_by_user',
  ),
  Mutant(
    'the masked row is measured on validation',
    _STAGES,
    "if name == 'test':\n      each['test_masked']",
    "if name == 'validation':\n      each['test_masked']",
    _POPULARITY,
  ),
  Mutant(
    'the checkpoint of the last step is evaluated',
    _LEARNING,
    'saved.restore_params(saved.by_metric(), like, mesh)',
    'saved.restore_params(saved.steps()[::-1], like, mesh)',
    _PICKED,
  ),
  Mutant(
    'a checkpoint is picked by recall',
    _LEARNING,
    "_BEST = 'ndcg@10'",
    "_BEST = 'recall@10'",
    _PICKED,
  ),
  Mutant(
    'the checkpoint with the smallest metric is picked',
    'tiger_jax/checkpoints/retention.py',
    '(math.isnan(values[step]), -values[step], step)',
    '(math.isnan(values[step]), values[step], step)',
    'tests/checkpoints/test_checkpoints.py::test_the_best_is_kept_too',
  ),
  Mutant(
    'only the latest checkpoints are kept',
    'tiger_jax/checkpoints/checkpoints.py',
    'best = self._ranked()[:1]',
    'best = self._ranked()[:0]',
    'tests/checkpoints/test_checkpoints.py::test_the_best_is_kept_too',
  ),
  Mutant(
    'training returns the last parameters, not the best',
    'tiger_jax/training/loop.py',
    'ranked = self.checkpoints.by_metric() if self.best_metric else []',
    'ranked: list[int] = []',
    'tests/training/test_loop.py::test_the_best_checkpoint_is_returned',
  ),
  Mutant(
    'the best replica is always the first',
    _LEARNING,
    'return sharding.put(state.params, shardings), best',
    'return sharding.put(state.params, shardings), 0',
    f'{_SEEDS} {_RATES}',
  ),
  Mutant(
    'every replica is measured by the parameters of the first',
    _LEARNING,
    'lambda x: x[index], params',
    'lambda x: x[0], params',
    _SEEDS,
  ),
  Mutant(
    'validation of replicas is the best, not the mean',
    _LEARNING,
    'max if c.learning_rates else np.mean, found',
    'max, found',
    _SEEDS,
  ),
  Mutant(
    'validation of learning rates is the mean, not the best',
    _LEARNING,
    'max if c.learning_rates else np.mean, found',
    'np.mean, found',
    _RATES,
  ),
  Mutant(
    'all replicas have one seed',
    _LEARNING,
    'Replica((config.seed + i) % 2**32)',
    'Replica(config.seed % 2**32)',
    _SEEDS,
  ),
  Mutant(
    'all replicas have the first learning rate',
    _LEARNING,
    'Replica(config.seed, rate / base)',
    'Replica(config.seed, c.learning_rates[0] / base)',
    _RATES,
  ),
  Mutant(
    'the results of learning rates are those of the first',
    _STAGES,
    'each[name][best] for name in each',
    'each[name][0] for name in each',
    _RATES,
  ),
  Mutant(
    'the standard error divides by n, not n - 1',
    _STAGES,
    'np.std(values, ddof=1)',
    'np.std(values, ddof=0)',
    _SEEDS,
  ),
  Mutant(
    'validation is on the first users, not on a random draw',
    _LEARNING,
    'examples.at(np.sort(order[:num]))',
    'examples.at(np.arange(min(num, len(order))))',
    f'{_LEARNED}::test_some_examples_are_drawn_at_random',
  ),
  Mutant(
    'the scale of the loss counts every target twice',
    _RECOMMENDERS,
    'mean_targets = float(lengths.mean())',
    'mean_targets = 2 * float(lengths.mean())',
    f'{_LEARNED}::test_every_training_target_counts_the_same',
  ),
  Mutant(
    'popularity counts held-out events',
    _RECOMMENDERS,
    'bought = dataset.history[training_positions(dataset)]',
    'bought = dataset.history',
    f'{_LEARNED}::test_popularity_user_by_user',
  ),
  Mutant(
    'the quantizer is fitted to unseen items too',
    'tiger_jax/stages/semantic_ids.py',
    '_fit(config, embeddings, folder, writer), c.collisions',
    '_fit(config, own.embeddings, folder, writer), c.collisions',
    'tests/stages/test_semantic_ids.py::test_unseen_items_get_ids_as_new_ones_do',
  ),
  Mutant(
    'the fixed weight of an ensemble is chosen on the test',
    'tiger_jax/experiments/ensemble.py',
    "key=lambda x: _metrics(validation, x)['ndcg@10']",
    "key=lambda x: _metrics(test, x)['ndcg@10']",
    'tests/experiments/test_rules.py::test_the_fixed_weight_is_of_validation',
  ),
  Mutant(
    'the adaptive weight of an ensemble is chosen on the test',
    'tiger_jax/experiments/ensemble.py',
    'key=lambda x: _metrics(validation, adaptive(validation, *x))',
    'key=lambda x: _metrics(test, adaptive(test, *x))',
    'tests/experiments/test_rules.py::test_the_fixed_weight_is_of_validation',
  ),
)
