"""Mistakes on the command line give one line, exit code 2 and a suggestion."""

import time

import pytest

from tests import small, typed

QUICKSTART = f'--config={small.ROOT}/configs/quickstart.py'
BEAUTY = f'--config={small.ROOT}/configs/beauty.py'
REQUEST = ('--mode=recommend', '--workdir=run', '--history=A')


@pytest.mark.parametrize(
  ('flags', 'named'),
  [
    (['--foo'], 'no flag --foo: did you mean --'),
    ([QUICKSTART, '--steps=9'], 'did you mean --config.train.steps?'),
    ([QUICKSTART, '--wrokdir=x'], 'did you mean --workdir?'),
    ([QUICKSTART, '--mode=trian'], 'did you mean train?'),
    ([*REQUEST, '--k=abc'], "--k is 'abc': it must be an integer"),
    ([*REQUEST, '--exact=maybe'], '--exact is '),
    ([*REQUEST, '--noexact=1'], '--noexact=1'),
    ([QUICKSTART, '--config.train.stepz=3'], 'did you mean steps?'),
    ([QUICKSTART, '--config.train=3'], 'config.train is a section'),
    ([QUICKSTART, '--config.train.steps=many'], "config.train.steps is 'many'"),
    ([QUICKSTART, '--config.train.steps=-1'], 'config.train.steps is -1'),
    ([QUICKSTART, '--config.model.name=tigr'], 'did you mean tiger?'),
    ([QUICKSTART, 'stray'], "'stray' is not a flag"),
    ([QUICKSTART, '--mode'], '--mode'),
    ([f'{BEAUTY}:cpuu'], 'did you mean cpu?'),
    ([f'{QUICKSTART}:cpu'], 'has no variants'),
    ([f'{QUICKSTART}x'], 'quickstart.py?'),
    (['--config=raises.py'], 'raises.py, line 2: ZeroDivisionError'),
    (['--config=empty.py'], 'no function get_config'),
    ([], 'no --config given'),
    ([QUICKSTART, '--mode=train', '--history=A'], '--history'),
  ],
  ids=lambda x: x if isinstance(x, str) else '',
)
def test_a_mistake_gives_one_line_quickly(tmp_path, flags, named):
  (tmp_path / 'raises.py').write_text('def get_config():\n  1 / 0\n')
  (tmp_path / 'empty.py').write_text('')
  start = time.monotonic()
  done = typed.run(*flags, cwd=tmp_path)
  seconds = time.monotonic() - start
  assert done.code == 2
  assert named in done.refusal
  assert done.out == ''
  # The import of JAX alone takes longer, even on an idle machine.
  assert seconds < 10
  assert not (tmp_path / 'runs').exists()


def test_jax_is_not_imported_for_a_mistake(tmp_path):
  done = typed.python(
    '-X', 'importtime', '-m', 'tiger_jax.main', QUICKSTART, '--k=1',
    cwd=tmp_path,
  )  # fmt: skip
  assert done.code == 2
  imported = {x.rpartition('|')[2].strip() for x in done.err.splitlines()}
  assert 'ml_collections' in imported
  assert not imported & {'jax', 'numpy', 'matplotlib', 'grain', 'flax'}


def test_help_shows_the_flags_of_the_program_first(tmp_path):
  done = typed.run('--help', cwd=tmp_path)
  assert (done.code, done.err) == (0, '')
  lines = done.out.splitlines()
  assert lines[0].startswith('python -m tiger_jax.main')
  assert any('--workdir' in line for line in lines[:8])
  assert len(lines) < 40


def test_a_warmup_that_is_longer_than_training_is_refused(tmp_path):
  done = typed.run(
    QUICKSTART,
    '--config.train.steps=99',
    '--config.train.on_non_finite=rewind:100,skip:1',
    cwd=tmp_path,
  )
  assert done.code == 2
  assert 'config.train.optimizer.warmup_steps is 100' in done.refusal
  assert 'config.train.steps' in done.refusal
  assert 'config.train.on_non_finite' in done.refusal
  assert not (tmp_path / 'runs').exists()


@pytest.mark.parametrize('variable', ['JAX_PLATFORMS', 'JAX_PLATFORM_NAME'])
def test_a_missing_platform_names_the_available_ones(tmp_path, variable):
  env = {'JAX_PLATFORMS': '', variable: 'cuda'}
  done = typed.run(QUICKSTART, '--mode=data', cwd=tmp_path, env=env)
  assert done.code == 2
  assert f"{variable} is 'cuda'" in done.refusal
  assert 'finds only cpu' in done.refusal
  assert not (tmp_path / 'runs').exists()


def test_too_few_users_with_four_events_is_reported(tmp_path):
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
  assert 'none of its 20 users has four events or more' in line
  assert 'batch_size' not in line
  # A field that the model does not read causes a warning.
  assert 'config.evaluation.num_beams is not read' in done.err


def test_home_is_expanded_and_printed_in_any_encoding(tmp_path):
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


def test_a_draw_is_widened_until_it_is_proven(trained):
  done = typed.run(
    '--mode=recommend', f'--workdir={trained}', '--history=A001,A008',
    '--temperature=2', '--k=8', cwd=trained.parent,
  )  # fmt: skip
  assert done.code == 0, done.err
  *listed, blank, said = done.out.splitlines()
  assert len(listed) == 8 and not blank
  assert said == 'Proven: a search of any width draws these 8 items.'
