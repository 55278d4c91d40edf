"""Tests of commands in a new process: imports, messages and recommendations."""

import csv

from tests import small, typed

QUICKSTART = f'--config={small.ROOT}/configs/quickstart.py'
BEAUTY = f'--config={small.ROOT}/configs/beauty.py'
REQUEST = ('--mode=recommend', '--workdir=run', '--history=A')


def test_an_error_on_the_command_line_does_not_import_jax(tmp_path):
  done = typed.python(
    '-X', 'importtime', '-m', 'tiger_jax.main', QUICKSTART, '--k=1',
    cwd=tmp_path,
  )  # fmt: skip
  assert done.code == 2
  imported = {x.rpartition('|')[2].strip() for x in done.err.splitlines()}
  assert 'ml_collections' in imported
  assert not imported & {'jax', 'numpy', 'matplotlib', 'grain', 'flax'}


def test_reports_too_few_users_with_four_events(tmp_path):
  log = [
    {'user': f'u{user}', 'item': f'A00{i}', 'timestamp': i}
    for user in range(20)
    for i in range(3)
  ]
  shop = small.make(tmp_path / 'shop', log, small.items(10))
  done = typed.run(
    *small.FLAGS, f'--config.dataset.source_dir={shop}',
    '--config.model.name=sasrec', '--mode=train', '--workdir=run',
    cwd=tmp_path,
  )  # fmt: skip
  assert done.code == 3
  line = done.err.splitlines()[-1]
  assert line.startswith('error: ')
  assert 'none of its 20 users has four or more events' in line
  assert 'batch_size' not in line
  # A field that the model does not read causes a warning.
  assert 'config.evaluation.num_beams is ignored' in done.err


def test_expands_the_home_folder_and_prints_the_path_as_ascii(tmp_path):
  done = typed.run(
    QUICKSTART,
    '--mode=data',
    '--config.dataset.synthetic_users=5',
    '--workdir=~/caf\u00e9',
    cwd=tmp_path,
    env={'HOME': str(tmp_path / 'home'), 'PYTHONIOENCODING': 'ascii'},
  )
  assert done.code == 0, done.err
  assert (tmp_path / 'home/caf\u00e9/data').is_dir()
  assert not (tmp_path / '~').exists()
  assert done.out.endswith('Everything is in ~/caf?\n')


def test_a_user_gets_recommendations_for_the_whole_history(trained):
  with open(trained.parent / 'shop/interactions.csv') as file:
    rows = [row for row in csv.DictReader(file) if row['user'] == 'u3']
  done = typed.run(
    '--mode=recommend', f'--workdir={trained}', '--user=u3', '--k=40',
    '--exclude_seen', cwd=trained.parent,
  )  # fmt: skip
  assert done.code == 0, done.err
  recommended = {line.split()[2] for line in done.out.splitlines()}
  history = {row['item'] for row in rows}
  assert len(history) >= 5
  assert recommended == {x['item'] for x in small.items()} - history


def test_sampling_adds_beams_until_the_items_are_proven_correct(trained):
  done = typed.run(
    '--mode=recommend', f'--workdir={trained}', '--history=A001,A008',
    '--temperature=2', '--k=8', cwd=trained.parent,
  )  # fmt: skip
  assert done.code == 0, done.err
  *listed, blank, proof = done.out.splitlines()
  assert len(listed) == 8 and not blank
  assert proof == 'Proven: a search with more beams draws the same 8 items.'
