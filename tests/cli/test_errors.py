"""Tests a table of commands with their exit codes and error messages."""

import re
import shlex
import shutil

import pytest

from tests import typed
from tests.cli import files, forked
from tests.cli.table import TABLE

_WORDS = {
  '$Q': '--config=configs/quickstart.py',
  '$AMAZON': '--config=configs/quickstart.py --mode=data --workdir=run '
  '--config.dataset.name=amazon2014/Beauty --config.dataset.source_dir=raw',
  '$EXPERIMENT': '--config=configs/paper/table2.py:cpu',
  '$ASK': '--mode=recommend --workdir=trained',
  '$ALL': '--mode=recommend_all --workdir=trained --out=lists',
}
# Replaced after the command is split into words.
_CHARACTERS = {
  '$NOT_UTF8': '\udcff',
  '$NEWLINE': '\n',
  '$ESCAPE': '\x1b',
  '$LONG': 'a' * 5000,
  '$MINUSES': '-' * 100_000,
  '$DIGITS': '9' * 5000,
}
_VARIABLE = re.compile(r'([A-Z0-9_]+)=(\S*) ')
# The first command of these topics is also typed. Other topics have the imports
# of `stages`, which take seconds.
_TYPED = ('flags', 'config files', 'fields', 'recommend', 'stages')
# In these topics, commands print something before the error.
_STARTED = ('folders', 'environment', 'data', 'stages')
# In these topics, commands write the stages before the one that fails.
_WRITING = ('data', 'stages')


def _cases():
  topic = ''
  for line in filter(None, TABLE.splitlines()):
    if line.startswith('## '):
      topic = line[3:]
      is_first = topic in _TYPED
      continue
    code, command, expected = line.split(' | ', 2)
    has_variable = bool(_VARIABLE.match(command))
    # These commands read a whole run, the fixture `trained`.
    reads_run = topic == 'recommend'
    for is_typed in {is_first or has_variable, has_variable}:
      # A typed command starts the whole program.
      marks = [pytest.mark.whole_runs] if reads_run or is_typed else []
      yield pytest.param(
        topic, command, int(code), expected, is_typed, marks=marks,
        id=f'{topic}: {"typed: " * is_typed}{command}',
      )  # fmt: skip
    is_first = False


CASES = list(_cases())


@pytest.fixture(name='template', scope='module')
def _template(tmp_path_factory):
  folder = tmp_path_factory.mktemp('template')
  files.make(folder)
  forked.start(tmp_path_factory.mktemp('home'))
  return folder


def arguments(command):
  for name, words in _WORDS.items():
    command = command.replace(name, words)
  words = shlex.split(command)
  for name, character in _CHARACTERS.items():
    words = [word.replace(name, character) for word in words]
  return words


@pytest.mark.parametrize(
  ('topic', 'command', 'code', 'expected', 'is_typed'), CASES
)
def test_a_wrong_command_prints_the_error_message(
  request, template, tmp_path, topic, command, code, expected, is_typed
):
  cwd = tmp_path / 'cwd'
  shutil.copytree(template, cwd, symlinks=True)
  if topic == 'recommend':
    (cwd / 'trained').symlink_to(request.getfixturevalue('trained'))
  before = sorted(cwd.rglob('*'))
  words = arguments(command)
  if is_typed:
    env = {}
    while words and _VARIABLE.match(f'{words[0]} '):
      name, _, env[name] = words.pop(0).partition('=')
    done = typed.run(*words, cwd=cwd, env=env)
  else:
    done = forked.run(words, cwd, tmp_path)
  assert done.code == code, done.err
  assert 'Traceback' not in done.err
  assert not done.out or topic in _STARTED
  line = done.refusal.removeprefix('error: ')
  pattern = '.*'.join(map(re.escape, expected.split('...')))
  assert line == expected or re.fullmatch(pattern, line), line
  if topic in _WRITING:
    assert not list(cwd.glob('run/embedding*'))
  else:
    assert sorted(cwd.rglob('*')) == before
