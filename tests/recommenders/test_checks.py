"""Contradictory settings, and settings that a run does not read."""

import pytest
from tiger_jax.config.contradictions import (
  contradictions,
  missing_paths,
  unread,
)

from tiger_jax.config.config_dict import from_json

# Sections with their changes, and the names in the one sentence.
CONTRADICTIONS = [
  (
    {'train': {'steps': 100, 'optimizer': {'warmup_steps': 101}}},
    ['warmup_steps is 101', '100 steps'],
  ),
  (
    {'train': {'steps': 100, 'on_non_finite': 'rewind:100,skip:1'}},
    ['on_non_finite', 'fewer than the 100 steps'],
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
    ['33 codes', 'semantic_ids.batch_size, 32'],
  ),
]


@pytest.mark.parametrize(('values', 'named'), CONTRADICTIONS)
def test_a_contradiction_is_one_sentence(values, named):
  (found,) = contradictions(from_json(values))
  for part in named:
    assert part in found


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
    {
      'model': {'name': 'sasrec'},
      'dataset': {'unseen_share': 0.1},
      'semantic_ids': {'shared_with': ['runs/other']},
    },
  ],
)
def test_settings_at_their_limits_are_fine(values):
  assert contradictions(from_json(values)) == []


def test_paths_that_are_missing_are_named_together():
  values = {
    'dataset': {'name': 'files'},
    'embedding': {'encoder': 'precomputed', 'path': 'x.npy'},
  }
  found = missing_paths(from_json(values))
  assert len(found) == 2
  assert 'config.dataset.source_dir is empty' in found[0]
  assert 'config.embedding.ids_path' in found[1]
  values['model'] = {'name': 'sasrec'}
  assert len(missing_paths(from_json(values))) == 1


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
    (
      {'train': {'learning_rates': [1e-3, 1e-4]}},
      'train.optimizer.learning_rate',
      'learning_rates',
    ),
  ],
)
def test_fields_that_a_run_does_not_read_are_reported(values, field, reason):
  (found,) = unread(from_json(values), ['seed', field])
  assert found.startswith(f'config.{field} is not read')
  assert reason in found


def test_fields_that_a_run_reads_are_not_reported():
  fields = [
    'dataset.synthetic_users', 'embedding.model', 'semantic_ids.epochs',
    'semantic_ids.optimizer.weight_decay', 'model.num_user_tokens',
    'train.steps', 'train.optimizer.learning_rate', 'evaluation.num_beams',
  ]  # fmt: skip
  assert unread(from_json({}), fields) == []
