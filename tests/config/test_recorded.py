"""Tests of configs that this version and older versions saved with a run."""

import dataclasses
import json
from pathlib import Path

import pytest

import tiger_jax
from tiger_jax.config import Config, DatasetConfig
from tiger_jax.config.checks import BEFORE, added_later
from tiger_jax.config.config_dict import from_json
from tiger_jax.config.recorded import config_of, former_values, identity
from tiger_jax.errors import DataError, UsageError
from tiger_jax.storage.record import Artifact


def artifact(config, **environment):
  metadata = {'config': config, 'environment': environment}
  return Artifact(Path('runs/a/train'), '0' * 64, 0.0, metadata)


@pytest.mark.parametrize('keep_repeats', [False, True])
def test_reads_a_recorded_config(keep_repeats):
  config = from_json({
    'seed': 3,
    'dataset': {'keep_repeats': keep_repeats},
    'train': {'steps': 7},
  })  # fmt: skip
  recorded = json.loads(json.dumps(dataclasses.asdict(config)))
  assert config_of(artifact(recorded)) == config
  # Records of older versions lack `keep_repeats`. Its value is then True,
  # because those versions kept repeats.
  if keep_repeats:
    del recorded['dataset']['keep_repeats']
    assert config_of(artifact(recorded)) == config


def test_missing_fields_get_their_former_values_not_their_defaults():
  """A former value keeps the behavior from before the field existed."""
  (field,) = (
    x for x in dataclasses.fields(DatasetConfig) if x.name == 'keep_repeats'
  )
  assert field.metadata[BEFORE] != field.default
  assert config_of(artifact({})).dataset.keep_repeats
  assert config_of(artifact({'dataset': {}})).dataset.keep_repeats
  assert not from_json({}).dataset.keep_repeats


@pytest.mark.parametrize(
  'config',
  [
    {'model': {'use_bias': True}},
    {'train': {'optimizer': {'momentum': 0.9}}},
    {'audio': {}},
    {'\x1b[2J' + 'x' * 10**6: 1},
  ],
)
def test_the_error_for_an_unknown_field_names_both_versions(config):
  with pytest.raises(DataError) as error:
    config_of(artifact(config, tiger_jax='0.0.7'))
  message = str(error.value)
  assert 'version 0.0.7' in message and tiger_jax.__version__ in message
  assert 'runs/a ' in message and 'did you mean' not in message
  assert len(message) < 600 and message.isprintable()


@pytest.mark.parametrize(
  'config',
  [
    {'train': {'replicas': 10**9}},
    {'train': 3},
    {'train': {'steps': 'many'}},
  ],
)
def test_the_error_for_an_invalid_value_names_the_file(config):
  with pytest.raises(DataError, match=r'runs/a/train/stage\.json'):
    config_of(artifact(config, tiger_jax='0.0.7'))


def test_the_error_of_the_check_names_the_file():
  def check(config):
    raise UsageError(f'there is no {config.model.name}')

  with pytest.raises(DataError) as error:
    config_of(artifact({'model': {'name': 'gpt'}}, tiger_jax='0.0.7'), check)
  assert str(error.value).startswith(
    'runs/a/train/stage.json, made by version '
  )
  assert 'there is no gpt' in str(error.value)


def test_accepts_a_retired_field_only_if_it_had_no_effect():
  assert config_of(artifact({'train': {'learning_rates': []}})) == config_of(
    artifact({})
  )
  with pytest.raises(DataError, match=r'config\.train\.learning_rates'):
    config_of(artifact({'train': {'learning_rates': [1e-3, 3e-3]}}))


def test_former_values_include_retired_fields():
  values = former_values()
  assert values['train'].pop('learning_rates') == []
  assert values['dataset'].pop('keep_repeats') is True
  expected = dataclasses.asdict(Config())
  del expected['dataset']['keep_repeats']
  assert values == expected


def test_identity_has_the_changed_fields():
  """A field with a former value is compared with it, not with its default."""
  assert identity(Config()) == {'dataset': {'keep_repeats': False}}
  former = {'keep_repeats': True}
  assert identity(from_json({'dataset': former})) == {}
  changed = {
    'seed': 3,
    'dataset': former,
    'model': {'name': 'dsi', 'max_history': 10},
    'train': {'length_buckets': [10], 'optimizer': {'warmup_steps': 7}},
  }
  expected = dict(changed, train=dict(changed['train'], length_buckets=(10,)))
  del expected['dataset']
  assert identity(from_json(changed)) == expected


def test_identity_uses_the_defaults_of_the_outer_section():
  """The optimizers of `train` and `semantic_ids` have different defaults."""
  sections = Config().train, Config().semantic_ids
  for section, other in (sections, sections[::-1]):
    rate = other.optimizer.learning_rate
    assert rate != section.optimizer.learning_rate
    optimizer = dataclasses.replace(section.optimizer, learning_rate=rate)
    changed = dataclasses.replace(section, optimizer=optimizer)
    assert identity(changed) == {'optimizer': {'learning_rate': rate}}


def test_identity_omits_a_new_field_that_keeps_the_old_behavior():
  """A field has it at its former value or, if it has none, at its default."""
  fields = [
    ('size', int, 4),
    ('plain', int, dataclasses.field(default=1)),
    ('later', bool, added_later(False, before=True)),
  ]
  with_both = dataclasses.make_dataclass('Section', fields, frozen=True)
  before = dataclasses.make_dataclass('Section', fields[:1], frozen=True)
  old = identity(before(size=5))
  assert identity(with_both(size=5, later=True)) == old == {'size': 5}
  assert identity(with_both(size=5)) == old | {'later': False}
  assert identity(with_both(size=5, plain=2, later=True)) == old | {'plain': 2}
