"""Tests of the verdict about a dataset, and of the suggested settings."""

import dataclasses
import functools

import pytest

from tests import small
from tiger_jax.config import config_file
from tiger_jax.data.checking import report
from tiger_jax.data.loading import load_dataset
from tiger_jax.embedding.text import item_sentences
from tiger_jax.stages import verdict

CONFIG = f'{small.ROOT}/configs/own_data.py'
FITTING = {
  'embedding.dim': 8,
  'semantic_ids.codebook_sizes': (8, 8, 8),
  'train.batch_size': 8,
}


@pytest.fixture(name='judge', scope='module')
def _judge(tmp_path_factory):
  """Returns a function that judges settings on a small shop."""

  @functools.cache
  def folder(shop):
    shops = {
      'good': {},
      'short users': {'log': small.events(small.items(), 50, 2)},
      'one event': {'log': small.events(small.items(), 50, 3, 3)},
      'few users': {'log': small.events(small.items(), 6)},
      'no text': {'catalog': small.items()[:30]},
      'bad rows': {'catalog': [*small.items(), {'item': '', 'title': 'x'}]},
    }
    files = {'log': small.events(small.items())} | shops[shop]
    return small.make(tmp_path_factory.mktemp('shop'), **files)

  def judge(shop, settings, chosen=()):
    settings = {'dataset.source_dir': str(folder(shop))} | settings
    config = config_file.load_config(CONFIG, settings)
    c = verdict.lenient(config)
    dataset = load_dataset(c.dataset, c.seed)
    measured = report.measure(dataset, item_sentences(dataset.items))
    return verdict.judge(config, dataset, measured, chosen)

  return judge


def test_a_fitting_config_needs_no_settings(judge):
  steps = {'train.steps': 500, 'train.evaluate_every': 50}
  assert judge('good', FITTING | steps) == ((), {}, '')


def test_every_setting_of_a_small_shop_is_suggested(judge):
  reasons, settings, unsolved = judge('few users', {})
  assert [x.split()[0] for x in reasons] == [
    'config.embedding.dim', 'config.semantic_ids.codebook_sizes', 'dataset',
  ]  # fmt: skip
  assert settings == {
    'embedding.dim': 20,
    'semantic_ids.codebook_sizes': (8, 8, 8),
    'train.batch_size': 4,
    'train.steps': 500,
    'train.evaluate_every': 50,
    'train.optimizer.warmup_steps': 50,
  }
  assert unsolved == ''


@pytest.mark.parametrize(
  ('shop', 'field', 'reason'),
  [
    ('short users', 'drop_short_users', 'users with fewer than 3 events'),
    ('no text', 'allow_missing_metadata', 'bought items have no text'),
  ],
)
def test_a_switch_is_suggested_only_if_it_is_off(judge, shop, field, reason):
  off = judge(shop, FITTING | {f'dataset.{field}': False})
  assert [x.partition(' ')[2] for x in off.reasons] == [reason]
  assert off.settings[f'dataset.{field}'] is True
  assert off.unsolved == ''
  on = judge(shop, FITTING)
  assert not on.reasons and f'dataset.{field}' not in on.settings


def test_a_share_of_bad_rows_is_suggested(judge):
  result = judge('bad rows', FITTING)
  (reason,) = result.reasons
  assert reason.startswith('2.439% of the rows of items are bad')
  assert 'items.csv, row 41' in reason
  # One of 41 rows, rounded up.
  assert result.settings['dataset.max_bad_share'] == 0.025
  assert result.unsolved == ''
  allowed = judge('bad rows', FITTING | {'dataset.max_bad_share': 0.025})
  assert not allowed.reasons
  strict = judge('bad rows', FITTING | {'dataset.max_bad_share': 0.024})
  assert len(strict.reasons) == 1


def test_k_core_drops_short_users_without_the_switch(judge):
  settings = {'dataset.drop_short_users': False, 'dataset.k_core': 3}
  assert not judge('short users', FITTING | settings).reasons


def test_without_training_events_nothing_helps(judge):
  result = judge('one event', FITTING)
  assert 'no training examples' in result.reasons[0]
  assert 'no training examples' in result.unsolved


def test_settings_of_the_user_are_kept(judge):
  chosen = ('train.steps', 'train.evaluate_every')
  assert judge('good', FITTING, chosen).settings == {}
  # The validation interval follows the steps of the user.
  steps = {'train.steps': 400}
  assert judge('good', FITTING | steps, ('train.steps',)).settings == {
    'train.evaluate_every': 40
  }


@pytest.mark.parametrize(
  ('num_users', 'batch_size', 'steps'),
  [
    (60, 8, 500),
    (22_363, 32, 16_000),
    (22_363, 64, 7800),
    (10**6, 64, 350_000),
  ],
)
def test_the_steps_follow_the_number_of_users(num_users, batch_size, steps):
  config = config_file.load_config(
    CONFIG, {'train.batch_size': batch_size, 'train.steps': 10**7}
  )
  assert verdict._schedule(config, num_users, ())['train.steps'] == steps
  near = dataclasses.replace(config.train, steps=steps)
  near = dataclasses.replace(config, train=near)
  assert 'train.steps' not in verdict._schedule(near, num_users, ())


def test_measured_steps_are_kept():
  for name in ('beauty.py:cpu_long', 'beauty.py', 'quickstart.py'):
    config = config_file.load_config(f'{small.ROOT}/configs/{name}')
    assert verdict._schedule(config, 100, ()) == {}
