"""Tests of --mode=check_data, without a new process."""

import dataclasses

import pytest

from tests import small
from tiger_jax.config import config_file
from tiger_jax.errors import DataError, UsageError
from tiger_jax.stages import check_data

FITTING = {
  'embedding.dim': 8,
  'semantic_ids.codebook_sizes': (8, 8, 8),
  'train.batch_size': 8,
}


@pytest.fixture(name='check')
def _check(tmp_path, capsys):
  """Returns a function that checks a shop, and returns the output by label."""

  def check(settings=None, **shop):
    folder = small.make(tmp_path / 'shop', **shop)
    config = config_file.load_config(
      f'{small.ROOT}/configs/own_data.py',
      FITTING | {'dataset.source_dir': str(folder)} | (settings or {}),
    )
    before = sorted(tmp_path.rglob('*'))
    error = ''
    try:
      check_data.run(config, (), lambda settings: f'run {settings}')
    except DataError as refused:
      error = str(refused)
    assert sorted(tmp_path.rglob('*')) == before
    lines = {}
    for line in capsys.readouterr().out.splitlines():
      label, _, text = line.strip().partition(': ')
      lines.setdefault(label, []).append(text)
    return lines, error

  return check


def test_a_good_shop_is_fine(check):
  lines, error = check()
  assert lines['verdict'] == ['fine'] and not error
  assert [x.rpartition('/')[2].split()[0] for x in lines['file']] == [
    'interactions.csv', 'items.csv',
  ]  # fmt: skip
  assert lines['command'] == [
    "run {'train.steps': 500, 'train.evaluate_every': 50, "
    "'train.optimizer.warmup_steps': 50}"
  ]
  assert lines['split'][0].startswith('train 184 targets of 50 users')


def test_warnings_are_in_the_verdict(check):
  rows = [row | {'timestamp': 7} for row in small.events(small.items())]
  lines, error = check(log=rows)
  assert lines['verdict'] == ['will train, but see the warnings'] and not error
  assert any('50 of 50 (100.0%) test targets' in x for x in lines['warning'])
  assert 'config.dataset.shuffle_ties=True' in lines['warning'][0]
  shuffled, _ = check({'dataset.shuffle_ties': True}, log=rows)
  assert shuffled['verdict'] == ['fine']


def test_a_config_that_cannot_train_gets_a_command(check):
  rows = small.events(small.items(), shortest=2)
  lines, error = check({'dataset.drop_short_users': False}, log=rows)
  assert lines['verdict'] == ['cannot train with this config']
  assert len(lines['problem']) == 1
  assert "'dataset.drop_short_users': True" in lines['command'][0]
  assert error.startswith('cannot train with this config: ')
  assert error.endswith('the command above will train')


def test_several_problems_are_counted(check):
  lines, error = check({'embedding.dim': 500, 'train.batch_size': 64})
  assert len(lines['problem']) == 2
  assert '(and 1 more)' in error


def test_data_on_which_nothing_trains_get_no_command(check):
  rows = small.events(small.items(), shortest=3, longest=3)
  lines, error = check(log=rows)
  assert 'command' not in lines
  assert error.startswith(
    'cannot train: dataset files has no training examples'
  )


def test_data_that_cannot_be_read_are_refused(check):
  rows = small.events(small.items())
  _, error = check(log=[{'a': 1, 'b': 2} for _ in rows])
  assert error.startswith('cannot train: ') and 'interactions.csv' in error


def test_every_bad_row_is_counted_by_its_reason(check):
  rows = small.events(small.items())
  rows[3] = rows[3] | {'timestamp': 'soon'}
  rows[5] = rows[5] | {'user': ''}
  lines, error = check(log=rows)
  (problem,) = lines['problem']
  assert 'max_bad_share' in problem and error
  text = ' '.join(x for xs in lines.values() for x in xs)
  assert f'{len(rows):,} read, {len(rows) - 2:,} kept' in text
  assert 'row 4' in text and 'row 6' in text


def test_contradictory_settings_are_a_usage_error(check):
  with pytest.raises(UsageError, match='warmup_steps'):
    check({'train.steps': 100})
  with pytest.raises(UsageError, match='source_dir'):
    check({'dataset.source_dir': ''})


def test_generated_data_can_be_checked(capsys):
  config = config_file.load_config(
    f'{small.ROOT}/configs/quickstart.py', {'dataset.synthetic_users': 300}
  )
  config = dataclasses.replace(
    config, train=dataclasses.replace(config.train, batch_size=32)
  )
  check_data.run(config, (), str)
  assert 'verdict' in capsys.readouterr().out
