"""Tests of the parser of the command line."""

import shlex

from absl.testing import flagsaver
import pytest

from tests.small import ROOT
from tiger_jax.config import command_line, commands
from tiger_jax.errors import UsageError

QUICKSTART = f'--config={ROOT}/configs/quickstart.py'


def parse(*arguments):
  with flagsaver.flagsaver():
    return command_line.parse(['main.py', *arguments])


def refusal(*arguments):
  with pytest.raises(UsageError) as error:
    parse(*arguments)
  return str(error.value)


def test_the_last_override_of_a_field_applies():
  command = parse(
    '--config.semantic_ids.codebook_sizes=(8,8,8)',
    QUICKSTART,
    '--config.train.steps=500',
    '--config.semantic_ids.codebook_sizes=(4,4)',
    '--config.train.steps=700',
    '--mode=train',
    '--mode=data',
    '--noconfig.dataset.drop_short_users',
    '--config.dataset.drop_short_users',
  )  # fmt: skip
  assert command.config.semantic_ids.codebook_sizes == (4, 4)
  assert command.config.train.steps == 700
  assert command.mode == 'data'
  assert command.config.dataset.drop_short_users


def test_the_last_of_repeated_flags_applies(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'b').mkdir()
  command = parse(
    '--mode=recommend', '--workdir=a', '--workdir=b', '--k=3', '--k=4',
    '--history=A', '--history=B,C', '--exact', '--noexact',
  )  # fmt: skip
  assert (command.workdir, command.k) == ('b', 4)
  assert command.history == ('B', 'C')
  assert not command.options['exact']


def test_a_space_may_separate_a_flag_from_its_value():
  command = parse(QUICKSTART, '--config.train.steps', '500', '--mode', 'data')
  assert command.config.train.steps == 500
  assert command.mode == 'data'


def test_flags_may_be_in_a_file(tmp_path):
  path = tmp_path / 'flags'
  path.write_text(f'{QUICKSTART}\n--config.train.steps=500\n')
  assert parse(f'--flagfile={path}').config.train.steps == 500
  assert 'flagfile' in refusal(f'--flagfile={path}2')


@pytest.mark.parametrize(
  ('name', 'workdir'),
  [
    ('quickstart.py', 'runs/quickstart'),
    ('beauty.py:cpu', 'runs/beauty_cpu'),
    ('paper/table2.py:cpu', 'runs/table2_cpu'),
  ],
)
def test_the_workdir_is_named_after_the_config(name, workdir):
  command = parse(f'--config={ROOT}/configs/{name}')
  assert command.workdir == workdir
  assert str(command.folder) == workdir


def test_the_home_folder_in_a_workdir_is_expanded(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  command = parse(QUICKSTART, '--workdir=~/x')
  assert command.workdir == '~/x'
  assert str(command.folder) == '/home/me/x'


def test_the_recorded_command_contains_no_paths():
  command = parse(
    f'--config={ROOT}/configs/paper/table2.py:cpu',
    '--config.base.seed=3',
    '--config.base.seed=4',
    '--config.datasets.beauty.dataset.source_dir=/secret',
    '--config.base.embedding.model=/secret/model',
    '--config.base.semantic_ids.shared_with=secret',
    '--config.order=("LSH","random")',
  )
  text = command.repeat
  assert '--config.base.seed=4' in text and 'seed=3' not in text
  assert 'secret' not in text
  assert shlex.split(text)[-1] == '--config.order=("LSH","random")'


@pytest.mark.parametrize(
  'argument',
  ["--config.order=('a b', 'c')", '--a=b', '--x="q"', '--y=$HOME `ls`', 'a!b'],
)
def test_quotes_arguments_for_a_shell(argument):
  assert shlex.split(commands.quote(argument)) == [argument]
  if "('a b'" in argument:
    assert commands.quote(argument) == f'"{argument}"'
