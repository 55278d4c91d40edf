"""Tests of config fields: types, limits and error messages."""

import ast
import dataclasses
import json
from pathlib import Path

import pytest

import tiger_jax
from tiger_jax.config import (
  Config,
  EmbeddingConfig,
  OptimizerConfig,
  SemanticIdsConfig,
)
from tiger_jax.config.config_dict import defaults, from_json, parse
from tiger_jax.errors import UsageError


def refusal(**changes):
  """Returns the error message for `section__field=value` changes."""
  values = dataclasses.asdict(Config())
  for name, value in changes.items():
    *sections, field = name.split('__')
    section = values
    for part in sections:
      section = section[part]
    section[field] = value
  with pytest.raises(UsageError) as error:
    from_json(values)
  assert error.value.exit_code == 2
  assert '\n' not in str(error.value)
  return str(error.value)


def test_defaults_parse():
  assert parse(defaults()) == Config()


def test_json_lists_become_tuples():
  values = json.loads(json.dumps(dataclasses.asdict(Config())))
  assert values['train']['length_buckets'] == [5, 10, 20]
  assert from_json(values) == Config()
  assert from_json(values).train.length_buckets == (5, 10, 20)


def test_missing_fields_get_their_defaults():
  assert from_json({'train': {'steps': 7}}).train.steps == 7


def test_float_fields_accept_integers():
  config = from_json({'train': {'optimizer': {'learning_rate': 1}}})
  assert type(config.train.optimizer.learning_rate) is float


@pytest.mark.parametrize(
  ('name', 'suggestion'),
  [
    ('train__stepz', 'steps'),
    ('train__optimizer__lerning_rate', 'learning_rate'),
    ('modle', 'model'),
    ('semantic_ids__codebooksize', 'codebook_sizes'),
  ],
)
def test_the_error_for_an_unknown_field_suggests_a_similar_field(
  name, suggestion
):
  message = refusal(**{name: 1})
  assert message.startswith(f'config.{name.replace("__", ".")} is not a field')
  assert message.endswith(f'did you mean {suggestion}?')


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('train__steps', 1.5),
    ('train__steps', '10'),
    ('train__steps', True),
    ('train__steps', None),
    ('train__optimizer__learning_rate', '1e-3'),
    ('train__optimizer__learning_rate', False),
    ('train__length_buckets', 20),
    ('train__length_buckets', (5, 10, 20.0)),
    ('train', 3),
    ('dataset__name', 3),
    ('dataset__drop_short_users', 1),
    ('semantic_ids__hidden_dims', 'abc'),
    ('seed', '0'),
  ],
)
def test_refuses_wrong_types(name, value):
  message = refusal(**{name: value})
  assert message.startswith(f'config.{name.replace("__", ".")} is ')
  assert 'must be' in message


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    *((f'model__{name}', 0) for name in (
      'max_history', 'd_model', 'num_heads', 'head_dim', 'mlp_dim',
      'num_encoder_layers', 'num_decoder_layers',
    )),
    ('model__dtype', 'float16'),
    ('model__dropout', 1.0),
    ('model__dropout', -0.1),
    ('model__prefix_dropout', 1.0),
    ('model__prefix_dropout', -0.1),
    ('model__prefix_embeddings', -1),
    ('model__softmax', 'tries'),
    ('model__num_user_tokens', -1),
    *((f'train__{name}', 0) for name in (
      'batch_size', 'steps', 'log_every', 'evaluate_every', 'evaluate_users',
    )),
    ('train__steps', -3),
    ('train__length_buckets', ()),
    ('train__length_buckets', (10, 5, 20)),
    ('train__length_buckets', (5, 5, 20)),
    ('train__length_buckets', (0, 20)),
    ('train__length_buckets', (5, 10)),
    ('train__length_buckets', (5, 20, 40)),
    ('train__optimizer__recipe', 'sgd'),
    ('train__optimizer__learning_rate', 0.0),
    ('train__optimizer__learning_rate', float('nan')),
    ('train__optimizer__learning_rate', float('inf')),
    ('train__optimizer__warmup_steps', -1),
    ('train__optimizer__weight_decay', -0.1),
    ('train__optimizer__clip_norm', 0.0),
    ('semantic_ids__optimizer__learning_rate', -1.0),
    *((f'semantic_ids__{name}', 0) for name in (
      'latent_dim', 'batch_size', 'epochs',
    )),
    ('semantic_ids__restart_epochs', -1),
    ('semantic_ids__collisions', 'sinkhorn'),
    ('semantic_ids__kmeans_init', 'none'),
    ('semantic_ids__codebook_sizes', (16, 0)),
    ('semantic_ids__hidden_dims', (64, 0)),
    ('semantic_ids__beta', -0.25),
    ('embedding__encoder', 'word2vec'),
    ('embedding__dim', 0),
    ('dataset__synthetic_users', 0),
    ('evaluation__batch_size', 0),
    ('evaluation__num_beams', 9),
    ('seed', -1),
    ('seed', 2**32),
  ],
)  # fmt: skip
def test_refuses_values_out_of_range(name, value):
  message = refusal(**{name: value})
  where = 'config.train.length_buckets is'
  # The message is different for buckets that are empty or do not end with
  # `model.max_history`.
  if value not in ((5, 10), (5, 20, 40), ()):
    where = f'config.{name.replace("__", ".")} is {value!r}: '
  assert message.startswith(where)


def test_the_error_for_a_wrong_choice_lists_the_choices():
  message = refusal(embedding__encoder='word2vec')
  assert 'sentence-transformers, tfidf-svd, precomputed' in message
  message = refusal(train__optimizer__recipe='sgd')
  assert 'adamw, adafactor, adagrad' in message


def test_accepts_values_at_the_limits():
  OptimizerConfig(warmup_steps=0, weight_decay=0.0)
  SemanticIdsConfig(restart_epochs=0, beta=0.0, hidden_dims=())
  EmbeddingConfig(dim=1)
  assert Config(seed=2**32 - 1).seed == 2**32 - 1


class _WithoutChecks(ast.NodeTransformer):
  """Removes the functions that only check fields."""

  def visit_FunctionDef(self, node):
    return None if node.name in ('__post_init__', 'check') else node


def test_the_package_reads_every_field():
  package = Path(tiger_jax.__file__).parent
  read = set()
  for path in package.rglob('*.py'):
    if path != package / 'recommenders' / 'checks.py':
      tree = _WithoutChecks().visit(ast.parse(path.read_text()))
      read |= {x.attr for x in ast.walk(tree) if isinstance(x, ast.Attribute)}

  def unread(cls):
    for field in dataclasses.fields(cls):
      if field.name not in read:
        yield f'{cls.__name__}.{field.name}'
      # The fields of `columns` are read together, as a dict.
      if dataclasses.is_dataclass(field.type) and field.name != 'columns':
        yield from unread(field.type)

  assert not list(unread(Config))


@pytest.mark.parametrize(
  ('policy', 'expected'),
  [
    ('abort', None),
    ('rewind:100,skip:200', (100, 200)),
    ('rewind:0,skip:999999999', (0, 999_999_999)),
  ],
)
def test_parses_the_rewind_policy(policy, expected):
  train = {'on_non_finite': policy, 'steps_per_call': 16}
  assert from_json({'train': train}).train.rewind == expected


@pytest.mark.parametrize(
  'policy',
  ['', 'rewind', 'rewind:1', 'skip:1', 'stop', 'rewind:1,skip:1000000000'],
)
def test_refuses_an_invalid_rewind_policy(policy):
  message = refusal(train__on_non_finite=policy)
  assert message.startswith('config.train.on_non_finite is ')
  assert 'rewind:100,skip:200' in message


@pytest.mark.parametrize(
  'name',
  [
    'train__replicas', 'train__batch_size', 'train__steps',
    'train__steps_per_call', 'train__log_every', 'train__evaluate_every',
    'train__evaluate_users', 'train__optimizer__warmup_steps',
    *(f'model__{name}' for name in (
      'max_history', 'd_model', 'num_heads', 'head_dim', 'mlp_dim',
      'num_encoder_layers', 'num_decoder_layers', 'num_user_tokens',
    )),
    *(f'semantic_ids__{name}' for name in (
      'latent_dim', 'batch_size', 'epochs', 'restart_epochs',
    )),
    'embedding__dim', 'dataset__synthetic_users', 'evaluation__batch_size',
    'evaluation__num_beams', 'evaluation__num_users', 'parallel__fsdp',
    'parallel__tensor',
  ],
)  # fmt: skip
@pytest.mark.parametrize('value', [2**31, 10**400])
def test_refuses_sizes_that_are_too_large(name, value):
  message = refusal(**{name: value})
  assert message.startswith(f'config.{name.replace("__", ".")} is too large')
  assert len(message) < 200


@pytest.mark.parametrize('name', ['codebook_sizes', 'hidden_dims'])
def test_refuses_elements_that_are_too_large(name):
  message = refusal(**{f'semantic_ids__{name}': (8, 10**9)})
  assert message.startswith(f'config.semantic_ids.{name} is too large')


def test_errors_shorten_long_values():
  for value in ('x' * 10**6, list(range(10**6)), {'a': ['y'] * 10**6}):
    assert len(refusal(train__steps=value)) < 1000
    assert len(refusal(train=['x' * 10**6])) < 1000
  message = refusal(model__name='x' * 10**6)
  assert message == 'config.model.name is longer than 4096 characters'
  message = refusal(train__optimizer__learning_rate=10**400)
  assert message == 'config.train.optimizer.learning_rate is too large'


def test_one_error_names_all_wrong_fields():
  message = refusal(train__steps=0, model__d_model=-1, semantic_ids__beta='x')
  for name in ('train.steps', 'model.d_model', 'semantic_ids.beta'):
    assert f'config.{name} is ' in message


@pytest.mark.parametrize(
  ('section', 'field'),
  [
    ('dataset', 'source_dir'), ('embedding', 'path'), ('embedding', 'ids_path'),
    ('embedding', 'model'), ('semantic_ids', 'shared_with'),
  ],
)  # fmt: skip
def test_the_home_folder_in_a_path_is_expanded(monkeypatch, section, field):
  monkeypatch.setenv('HOME', '/home/me')
  is_tuple = field == 'shared_with'
  value = ('~/x',) if is_tuple else '~/x'
  config = from_json({section: {field: value}})
  expanded = getattr(getattr(config, section), field)
  assert expanded == (('/home/me/x',) if is_tuple else '/home/me/x')


def test_refuses_an_unknown_home_folder():
  message = refusal(dataset__source_dir='~nobody_has_this_name/x')
  assert message.startswith('config.dataset.source_dir is ')
  assert 'no such home folder' in message


def test_a_tilde_in_other_text_is_not_expanded():
  assert from_json({'dataset': {'name': '~/x'}}).dataset.name == '~/x'
