"""Tests of checkpoints that other versions of tiger_jax wrote.

A checkpoint of an older version lacks the config fields that were added later.
A missing field gets the value with which the code behaves as it did before the
field was added.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tiger_jax import __version__
from tiger_jax.checkpoints import checkpoint_folder, manifest
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.checkpoints.compatibility import require_same_run
from tiger_jax.config import Config
from tiger_jax.errors import CheckpointError, DamagedError

STATE = {'a': np.arange(6, dtype=np.float32)}


def recorded_config():
  """Returns config sections in the form in which checkpoints record them."""
  config = json.loads(json.dumps(dataclasses.asdict(Config())))
  sections = ('model', 'train', 'semantic_ids')
  return {name: config[name] for name in sections} | {'seed': 0}


@pytest.fixture(name='folder')
def _folder(tmp_path):
  with Checkpoints(tmp_path, recorded_config()) as checkpoints:
    checkpoints.save(1, STATE, {})
  return tmp_path


def rewrite(folder, change):
  """Changes `meta.json` as if another version had written it."""
  path = folder / '1' / 'meta.json'
  contents = json.loads(path.read_text())
  change(contents)
  path.write_text(json.dumps(contents))
  manifest.write(folder / '1', {'step': 1})


def restore(folder, expected):
  with Checkpoints(folder, expected) as checkpoints:
    checkpoints.require_same_run()
    return checkpoints.restore(1, STATE)


def restore_error(folder, expected):
  """Returns the message of the error that a restore raises."""
  with pytest.raises(CheckpointError) as error:
    restore(folder, expected)
  assert not isinstance(error.value, DamagedError)
  message = str(error.value)
  assert '\n' not in message
  return message


FIELDS = [
  ('model', 'tied_heads'),
  ('train', 'replicas'),
  ('semantic_ids', 'restart_epochs'),
]


@pytest.mark.parametrize(('section', 'field'), FIELDS)
def test_a_missing_field_gets_the_value_of_the_old_behavior(
  folder, section, field
):
  rewrite(folder, lambda x: x['about'][section].pop(field))
  restore(folder, recorded_config())


def test_a_missing_optimizer_field_gets_the_default_of_its_section(folder):
  """Both sections have an `OptimizerConfig`, but with different defaults."""
  name = 'learning_rate'
  defaults = [
    recorded_config()[x]['optimizer'][name] for x in ('train', 'semantic_ids')
  ]
  assert defaults[0] != defaults[1]
  rewrite(
    folder,
    lambda x: [
      x['about'][y]['optimizer'].pop(name) for y in ('train', 'semantic_ids')
    ],
  )
  restore(folder, recorded_config())


@pytest.mark.parametrize(('section', 'field'), FIELDS)
def test_refuses_a_missing_field_if_this_run_changes_the_old_behavior(
  folder, section, field
):
  rewrite(folder, lambda x: x['about'][section].pop(field))
  expected = recorded_config()
  default = expected[section][field]
  expected[section][field] = 'other'
  message = restore_error(folder, expected)
  assert f'{section}.{field} is {default}, expected other' in message


def test_accepts_a_retired_field_only_if_it_had_no_effect(folder):
  rewrite(folder, lambda x: x['about']['train'].update(learning_rates=[]))
  restore(folder, recorded_config())
  rates = [1e-3, 3e-3]
  rewrite(folder, lambda x: x['about']['train'].update(learning_rates=rates))
  message = restore_error(folder, recorded_config())
  assert f'train.learning_rates is {rates}, expected []' in message


def test_the_error_for_an_unknown_field_names_the_version(folder):
  def change(contents):
    contents['about']['model']['use_bias'] = True
    contents['version'] = '0.0.7'

  rewrite(folder, change)
  message = restore_error(folder, recorded_config())
  assert (
    f'model.use_bias is True, a field that tiger_jax {__version__} does not '
    'have (written by tiger_jax 0.0.7)'
  ) in message
  rewrite(folder, lambda x: [x.pop('version'), x.pop('format')])
  assert '(written by an earlier version)' in restore_error(
    folder, recorded_config()
  )


def test_refuses_a_newer_format(folder):
  """The checkpoint is not damaged: a damaged checkpoint would be skipped."""

  def change(contents):
    contents.clear()
    contents |= {'format': checkpoint_folder.FORMAT + 1, 'version': '9.1'}

  rewrite(folder, change)
  message = restore_error(folder, recorded_config())
  number = checkpoint_folder.FORMAT
  assert f'has format {number + 1}, written by tiger_jax 9.1' in message
  assert f'tiger_jax {__version__} reads formats up to {number}' in message


@pytest.mark.parametrize('number', ['1', None, [1], 1.5, True, -1])
def test_refuses_a_format_that_is_not_a_number(folder, number):
  rewrite(folder, lambda x: x.update(format=number))
  with pytest.raises(DamagedError, match='format'):
    restore(folder, recorded_config())


@pytest.mark.parametrize(
  ('recorded', 'expected', 'differences'),
  [
    (
      {'catalog': {}}, {'catalog': {'items': 3}},
      ['catalog.items is absent, expected 3'],
    ),
    (
      {}, {'seed': 0, 'model': {}},
      ['model is absent, expected {}', 'seed is absent, expected 0'],
    ),
  ],
)  # fmt: skip
def test_only_sections_of_the_config_have_defaults(
  recorded, expected, differences
):
  with pytest.raises(CheckpointError) as error:
    require_same_run(Path('x'), {'about': recorded, 'arrays': {}}, expected, {})
  named = '; '.join(differences)
  assert f'x belongs to another run: {named}; choose' in str(error.value)
