"""Tests that the fingerprints of the shipped configs do not change.

If a fingerprint changes, the finished stages of all users run again. If a
default changes, a stage made with the old default would seem to be made with
the new one. To change a default, declare the field with
`checks.added_later(new, before=old)`.

`python -m tests.config.test_fingerprints` updates the expected values.
"""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

from tests.small import ROOT
from tiger_jax.config import Config, TrainConfig
from tiger_jax.config.config_dict import parse
from tiger_jax.config.recorded import former_values, identity
from tiger_jax.recommenders.registry import BASELINES
from tiger_jax.stages import data, embedding, evaluation, semantic_ids, training
from tiger_jax.storage.fingerprints import fingerprint

HERE = Path(__file__).parent
FINGERPRINTS = HERE / 'fingerprints.json'
DEFAULTS = HERE / 'defaults.json'
VARIANTS = {
  'beauty': ('', 'cpu', 'cpu_long', 'paper'),
  'sports': ('', 'cpu', 'cpu_long', 'paper'),
  'toys': ('', 'cpu', 'cpu_long', 'paper'),
  'quickstart': ('',),
  'own_data': ('',),
  'baselines': BASELINES,
}


def load(name, variant):
  path = ROOT / 'configs' / f'{name}.py'
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return parse(module.get_config(*[variant] if variant else []))


def fingerprints(config):
  """Returns the fingerprint of every stage. The inputs are placeholders."""
  made_from = {
    'data': data.made_from(config),
    'embedding': embedding.made_from(config, 'items'),
    'semantic_ids': semantic_ids.made_from(config.semantic_ids, ()),
    'train': training.made_from(config, {'data': 'data'}),
    'evaluation': evaluation.made_from(config, 'train'),
  }
  return {name: fingerprint(name, x) for name, x in made_from.items()}


def shipped_fingerprints():
  return {
    f'{name}:{variant}' if variant else name: fingerprints(load(name, variant))
    for name, variants in VARIANTS.items()
    for variant in variants
  }


def test_fingerprints_of_shipped_configs_are_unchanged():
  assert shipped_fingerprints() == json.loads(FINGERPRINTS.read_text())


def test_former_values_are_unchanged():
  """A former value keeps the behavior from before the field existed."""
  values = json.loads(json.dumps(former_values()))
  assert values == json.loads(DEFAULTS.read_text())


def test_a_new_field_at_its_default_is_not_in_the_identity():
  """Fingerprints are made from the identity, so they do not change."""
  later = dataclasses.make_dataclass(
    'Later', [('new', int, 3)], bases=(TrainConfig,), frozen=True
  )
  assert identity(later()) == identity(TrainConfig()) == {}
  assert identity(later(steps=7)) == identity(TrainConfig(steps=7))
  assert identity(later(new=4)) == {'new': 4}


# Values that differ from the defaults, for fields with restricted values.
OTHER_VALUES = {
  'shared_with': ('elsewhere',),
  'codebook_sizes': (4, 4),
  'hidden_dims': (8,),
  'length_buckets': (1, 2),
  'on_non_finite': 'rewind:1,skip:1',
  'collisions': 'optimal',
  'kmeans_init': 'first_batch',
  'repeated_items': 'first',
  'max_history': 50,
}


@pytest.mark.parametrize('section', ['dataset', 'semantic_ids', 'train'])
def test_every_changed_field_is_in_the_identity(section):
  config = getattr(Config(), section)
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if dataclasses.is_dataclass(value):
      continue
    other = OTHER_VALUES.get(field.name)
    if other is None:
      other = {
        str: lambda x: f'{x}x',
        bool: lambda x: not x,
        int: lambda x: x + 1,
        float: lambda x: x / 2 + 0.25,
      }[type(value)](value)
    changed = dataclasses.replace(config, **{field.name: other})
    assert identity(changed) != identity(config), field.name


def test_a_changed_field_of_a_nested_section_is_in_the_identity():
  optimizer = dataclasses.replace(TrainConfig().optimizer, learning_rate=0.5)
  changed = dataclasses.replace(TrainConfig(), optimizer=optimizer)
  assert identity(changed) == {'optimizer': {'learning_rate': 0.5}}
  # The default of `semantic_ids.optimizer` differs from `OptimizerConfig()`.
  ids = Config().semantic_ids
  assert identity(ids) == {}
  optimizer = dataclasses.replace(ids.optimizer, learning_rate=1e-3)
  changed = dataclasses.replace(ids, optimizer=optimizer)
  assert identity(changed) == {'optimizer': {'learning_rate': 1e-3}}


if __name__ == '__main__':
  FINGERPRINTS.write_text(json.dumps(shipped_fingerprints(), indent=1) + '\n')
  DEFAULTS.write_text(json.dumps(former_values(), indent=1) + '\n')
