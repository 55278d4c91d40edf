"""Tests the checks for invalid, missing and ignored settings."""

import pytest

from tiger_jax.config.config_dict import from_json
from tiger_jax.errors import UsageError
from tiger_jax.recommenders.checks import (
  check,
  contradictions,
  missing_paths,
  unread,
)

# Contradictory settings, and parts of the expected sentence.
CONTRADICTIONS = [
  (
    {'train': {'steps': 100, 'optimizer': {'warmup_steps': 101}}},
    ['warmup_steps is 101', '100 training steps'],
  ),
  (
    {'train': {'steps': 100, 'on_non_finite': 'rewind:100,skip:1'}},
    ['on_non_finite', 'fewer than 100 steps'],
  ),
  (
    {'train': {'steps': 100, 'on_non_finite': 'rewind:10,skip:0'}},
    ['on_non_finite', 'skip at least one batch'],
  ),
  (
    {
      'dataset': {'unseen_share': 0.1},
      'semantic_ids': {'shared_with': ['runs/other']},
    },
    ['unseen_share', 'shared_with'],
  ),
  (
    {
      'embedding': {'encoder': 'tfidf-svd'},
      'semantic_ids': {'shared_with': ['runs/other']},
    },
    ['shared_with', 'tfidf-svd'],
  ),
  (
    {
      'semantic_ids': {
        'kmeans_init': 'first_batch',
        'batch_size': 32,
        'codebook_sizes': [33, 8],
      }
    },
    ['33 codes', 'has 32 items', 'semantic_ids.batch_size to 33'],
  ),
  (
    {'model': {'name': 'dsi', 'softmax': 'trie'}},
    ["model.softmax is 'trie'", 'only the model tiger', 'choose all_codes'],
  ),
  *(
    (
      {'train': {'packed': True}, 'model': model},
      ['train.packed is True', 'causal_encoder=True', 'num_user_tokens=0'],
    )
    for model in (
      {},
      {'causal_encoder': True, 'num_user_tokens': 1},
      {'name': 'dsi', 'causal_encoder': True},
      {'name': 'sasrec', 'causal_encoder': True},
      {'name': 'popularity'},
    )
  ),
]


@pytest.mark.parametrize(('values', 'parts'), CONTRADICTIONS)
def test_contradictions_are_reported_in_one_sentence(values, parts):
  (sentence,) = contradictions(from_json(values))
  for part in parts:
    assert part in sentence


@pytest.mark.parametrize(
  'values',
  [
    {},
    {'train': {'steps': 100, 'optimizer': {'warmup_steps': 100}}},
    {'train': {'steps': 100, 'on_non_finite': 'rewind:99,skip:1'}},
    {
      'train': {
        'steps': 100,
        'optimizer': {'recipe': 'adagrad', 'warmup_steps': 101},
      }
    },
    {
      'model': {'name': 'popularity'},
      'train': {'steps': 100, 'optimizer': {'warmup_steps': 101}},
    },
    {
      'semantic_ids': {
        'kmeans_init': 'first_batch',
        'batch_size': 32,
        'codebook_sizes': [32, 8],
      }
    },
    {'model': {'softmax': 'trie'}},
    {'model': {'causal_encoder': True}, 'train': {'packed': True}},
    {'model': {'name': 'sasrec', 'softmax': 'trie'}},
    {'model': {'name': 'vq_rec', 'softmax': 'trie'}},
    {
      'model': {'name': 'sasrec'},
      'dataset': {'unseen_share': 0.1},
      'semantic_ids': {'shared_with': ['runs/other']},
    },
  ],
)
def test_settings_without_contradictions_are_accepted(values):
  config = from_json(values)
  assert contradictions(config) == []
  check(config)


def test_all_missing_paths_are_reported():
  values = {
    'dataset': {'name': 'files'},
    'embedding': {'encoder': 'precomputed', 'path': 'x.npy'},
  }
  sentences = missing_paths(from_json(values))
  assert len(sentences) == 2
  assert 'config.dataset.source_dir is empty' in sentences[0]
  assert 'config.embedding.ids_path' in sentences[1]
  values['model'] = {'name': 'sasrec'}
  assert len(missing_paths(from_json(values))) == 1


@pytest.mark.parametrize('field', ['path', 'ids_path'])
@pytest.mark.parametrize('mode', ['embed', 'semantic_ids'])
def test_a_mode_that_embeds_needs_both_paths_for_any_model(mode, field):
  values = {
    'embedding': {'encoder': 'precomputed', field: 'x'},
    'model': {'name': 'sasrec'},
  }
  (sentence,) = missing_paths(from_json(values), mode)
  assert 'must both be set' in sentence


def test_a_mode_that_makes_ids_checks_their_settings_for_any_model():
  values = {
    'dataset': {'unseen_share': 0.1},
    'embedding': {'encoder': 'tfidf-svd'},
    'model': {'name': 'sasrec'},
    'semantic_ids': {
      'kmeans_init': 'first_batch',
      'batch_size': 32,
      'codebook_sizes': [33, 8],
      'shared_with': ['runs/other'],
    },
  }
  assert contradictions(from_json(values)) == []
  assert len(contradictions(from_json(values), 'semantic_ids')) == 3


@pytest.mark.parametrize(
  ('values', 'field', 'reason'),
  [
    ({}, 'embedding.dim', 'embedding.encoder'),
    ({'embedding': {'encoder': 'tfidf-svd'}}, 'embedding.model', 'tfidf-svd'),
    ({}, 'embedding.ids_path', 'sentence-transformers'),
    ({}, 'dataset.source_dir', "'synthetic'"),
    ({'dataset': {'name': 'files'}}, 'dataset.synthetic_users', "'files'"),
    ({'model': {'name': 'sasrec'}}, 'embedding.encoder', "'sasrec'"),
    ({'model': {'name': 'two_tower'}}, 'semantic_ids.beta', "'two_tower'"),
    ({'model': {'name': 'sasrec'}}, 'evaluation.num_beams', "'sasrec'"),
    ({'model': {'name': 'sasrec'}}, 'model.tied_heads', "'sasrec'"),
    ({'model': {'name': 'vq_rec'}}, 'model.softmax', "'vq_rec'"),
    ({'model': {'name': 'sasrec'}}, 'model.recency_bias', "'sasrec'"),
    ({'model': {'name': 'sasrec'}}, 'model.prefix_embeddings', "'sasrec'"),
    ({'model': {'name': 'sasrec'}}, 'model.prefix_dropout', "'sasrec'"),
    ({'model': {'name': 'sasrec'}}, 'model.prefix_heads', "'sasrec'"),
    ({'model': {'name': 'sasrec'}}, 'model.history_bias', "'sasrec'"),
    ({}, 'model.prefix_dropout', 'prefix_embeddings is 0'),
    ({}, 'model.loss', "'tiger'"),
    ({}, 'evaluation.search', "'tiger'"),
    ({'model': {'name': 'item_knn'}}, 'train.steps', "'item_knn'"),
    (
      {'semantic_ids': {'quantizer': 'rq_kmeans'}},
      'semantic_ids.optimizer.learning_rate',
      "'rq_kmeans'",
    ),
    (
      {'train': {'optimizer': {'recipe': 'adagrad'}}},
      'train.optimizer.warmup_steps',
      "'adagrad'",
    ),
  ],
)
def test_ignored_fields_are_reported(values, field, reason):
  (sentence,) = unread(from_json(values), ['seed', field])
  assert sentence.startswith(f'config.{field} is ignored')
  assert reason in sentence


def test_used_fields_are_not_reported():
  fields = [
    'dataset.synthetic_users', 'embedding.model', 'semantic_ids.epochs',
    'semantic_ids.optimizer.weight_decay', 'model.num_user_tokens',
    'train.steps', 'train.optimizer.learning_rate', 'evaluation.num_beams',
    'model.softmax', 'model.recency_bias', 'model.prefix_embeddings',
    'model.history_bias',
  ]  # fmt: skip
  assert unread(from_json({}), fields) == []
  with_prefixes = from_json({'model': {'prefix_embeddings': 9}})
  assert unread(with_prefixes, ['model.prefix_dropout']) == []


def refusal(**sections):
  """Returns the message with which `check` refuses the settings."""
  config = from_json(sections)
  with pytest.raises(UsageError) as error:
    check(config)
  assert error.value.exit_code == 2
  assert '\n' not in str(error.value)
  return str(error.value)


def test_an_unknown_model_suggests_known_models():
  message = refusal(model={'name': 'tigr'})
  assert message.startswith("config.model.name is 'tigr': did you mean tiger?")
  assert 'sasrec' in message and 'popularity' in message


def test_an_unknown_quantizer_suggests_known_quantizers():
  message = refusal(semantic_ids={'quantizer': 'rqkmeans'})
  assert message.startswith("config.semantic_ids.quantizer is 'rqkmeans': ")
  assert 'did you mean rq_kmeans?' in message and 'lsh' in message
  assert refusal(semantic_ids={'quantizer': 'kmeans'}).startswith(
    "config.semantic_ids.quantizer is 'kmeans': "
  )


@pytest.mark.parametrize(
  ('quantizer', 'sizes', 'reason'),
  [
    ('lsh', (256, 255), 'lsh needs powers of two'),
    ('vq_vae', (256, 128), 'one codebook for all levels'),
  ],
)
def test_unsupported_codebook_sizes_are_refused(quantizer, sizes, reason):
  ids = {'quantizer': quantizer, 'codebook_sizes': sizes}
  message = refusal(semantic_ids=ids)
  assert message.startswith(f'config.semantic_ids.codebook_sizes is {sizes}: ')
  assert reason in message
  # The quantizer rq_kmeans supports these sizes.
  check(from_json({'semantic_ids': ids | {'quantizer': 'rq_kmeans'}}))


def test_the_codes_of_hierarchical_kmeans_cannot_be_changed():
  ids = {'quantizer': 'hierarchical_kmeans', 'collisions': 'optimal'}
  message = refusal(semantic_ids=ids)
  assert message.startswith("config.semantic_ids.collisions is 'optimal'")
  assert 'choose extra_code' in message


def test_all_contradictions_are_reported():
  message = refusal(
    train={'steps': 100, 'optimizer': {'warmup_steps': 101}},
    dataset={'unseen_share': 0.1},
    semantic_ids={'shared_with': ['runs/other']},
  )
  assert 'warmup_steps is 101' in message and 'shared_with are both' in message


def test_unknown_models_and_quantizers_are_reported_together():
  message = refusal(
    model={'name': 'tigr'}, semantic_ids={'quantizer': 'rqkmeans'}
  )
  assert 'did you mean tiger?' in message
  assert 'did you mean rq_kmeans?' in message
