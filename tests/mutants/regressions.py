"""Faults that the code once had."""

from tests.mutants.mutant import Mutant

MUTANTS = (
  Mutant(
    'items are numbered in the order of the events',
    'tiger_jax/data/assembly.py',
    'tuple(sorted({*seen, *catalogue}, key=_hashed))',
    'tuple(dict.fromkeys([*seen, *catalogue]))',
    'tests/data/test_own_files.py::test_rows_do_not_depend_on_the_events',
  ),
  Mutant(
    'two-tower vectors are not standardized',
    'tiger_jax/recommenders.py',
    'features = item_batches.standardize(material.vectors)',
    'features = np.asarray(material.vectors, np.float32)',
    'tests/test_recommenders.py',
  ),
  Mutant(
    'DSI vectors are not standardized',
    'tiger_jax/recommenders.py',
    'vectors = item_batches.standardize(material.vectors)',
    'vectors = np.asarray(material.vectors, np.float32)',
    'tests/test_recommenders.py',
  ),
  Mutant(
    'the mean of embeddings is summed in float32',
    'tiger_jax/semantic_ids/item_batches.py',
    'total += chunk.sum(axis=0, dtype=np.float64)',
    'total += chunk.sum(axis=0)',
    'tests/semantic_ids/test_item_batches.py::test_standardized_embeddings',
  ),
  Mutant(
    'a changed catalogue loses the padding of spread',
    'tiger_jax/decoding/catalog.py',
    'x = _lengthened(x, len(old) - len(x))',
    'x = _lengthened(x, 0)',
    'tests/decoding/test_spread.py::test_changes_where_many_prefixes_are_large',
  ),
  Mutant(
    'position biases decay',
    'tiger_jax/training/optimizer.py',
    "if x.ndim < 2 or name.endswith('position_bias/table'):",
    'if x.ndim < 2:',
    'tests/training/test_optimizer.py::test_what_decays_in_tiger',
  ),
  Mutant(
    'norm scales and biases decay',
    'tiger_jax/training/optimizer.py',
    "if x.ndim < 2 or name.endswith('position_bias/table'):",
    "if name.endswith('position_bias/table'):",
    'tests/training/test_optimizer.py::test_what_decays_in_an_rq_vae',
  ),
  Mutant(
    'the search computes in the dtype of training',
    'tiger_jax/decoding/retriever.py',
    'self.model = model.clone(config=config)',
    'self.model = model',
    'tests/decoding/test_dtype.py::test_the_search_is_that_of_a_float32_model',
  ),
  Mutant(
    'the search has the default products of the device',
    'tiger_jax/decoding/retriever.py',
    "default_matmul_precision('highest')",
    "default_matmul_precision('default')",
    'tests/decoding/test_retriever.py::test_lowers_for_every_platform',
  ),
  Mutant(
    'baselines retrieve in the dtype of training',
    'tiger_jax/decoding/item_retriever.py',
    'self.model = model.clone(config=config)',
    'self.model = model',
    'tests/decoding/test_dtype.py::test_every_model_is_computed_in_float32',
  ),
  Mutant(
    'baselines retrieve with the default products',
    'tiger_jax/decoding/item_retriever.py',
    "default_matmul_precision('highest')",
    "default_matmul_precision('default')",
    'tests/training/test_lowering.py::test_retrieval_of_items',
  ),
  Mutant(
    'a draw is not widened',
    'tiger_jax/serving/recommender.py',
    'if options.exact or sampler:',
    'if options.exact:',
    'tests/serving/test_recommender.py::test_a_draw_is_as_wide_as_its_proof',
  ),
  Mutant(
    'experiments trust a narrow search',
    'tiger_jax/experiments/ranking.py',
    'retriever.search_exact(',
    'retriever.search(',
    'tests/experiments/test_ranking.py::'
    'test_draws_are_those_of_a_search_that_drops_nothing',
  ),
  Mutant(
    'items of the history do not carry unseen ones',
    'tiger_jax/experiments/cold_start.py',
    'new=True, but=carriers)',
    'new=True)',
    'tests/experiments/test_rules.py::test_rules_for_unseen_items',
  ),
  Mutant(
    'items of the history stay in the list',
    'tiger_jax/experiments/cold_start.py',
    'items = without(with_unseen(items, dataset.unseen, prefixes), owned)',
    'items = with_unseen(items, dataset.unseen, prefixes)',
    'tests/experiments/test_rules.py::test_rules_for_unseen_items',
  ),
  Mutant(
    'a proven share is rounded up',
    'tiger_jax/report/tables.py',
    'math.floor(1000 * value + 1e-9) / 1000',
    'value',
    'tests/report/test_tables.py::test_a_record_without_a_newer_column',
  ),
)
