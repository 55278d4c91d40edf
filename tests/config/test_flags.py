"""Tests of the flags and the help text."""

import re
import shlex

from absl import flags
from absl.testing import flagsaver
import pytest

from tests import small, typed
from tiger_jax.config import command_line
from tiger_jax.config.flags import TOPICS, help_text


def test_help_starts_with_the_purpose():
  lines = help_text().splitlines()
  assert lines[0].startswith('Trains TIGER')
  assert lines.index('Examples:') <= 5
  assert max(map(len, lines)) <= 80


def test_help_describes_every_flag_and_its_default():
  text = ' '.join(help_text().split())
  modes = (
    'recommend', 'recommend_all', 'recommend and --mode=recommend_all',
    'serve', 'bench', 'export',
  )  # fmt: skip
  titles = ('Flags:', *(f'Flags of --mode={mode}:' for mode in modes))
  positions = [text.index(title) for title in titles]
  assert positions == sorted(positions)
  for topic, position in zip(TOPICS.values(), positions, strict=True):
    for flag in topic:
      heading = f' --{flag.name}{flag.value and f"={flag.value}"} '
      start = text.index(heading, position) + len(heading)
      entry = re.split(r' --\w+[ =]\S*(?= [A-Z])| Flags of', text[start:])[0]
      assert entry[0].isupper() and entry[-1] == '.', entry
      assert 'default' in entry, entry
      default = flags.FLAGS[flag.name].default
      assert default == flag.default
      if default:
        assert f'The default is {default}.' in entry


def test_examples_are_valid_commands(tmp_path, monkeypatch):
  (tmp_path / 'configs').symlink_to(small.ROOT / 'configs')
  (tmp_path / 'runs/quickstart').mkdir(parents=True)
  monkeypatch.chdir(tmp_path)
  text = help_text().replace('\\\n', ' ')
  commands = re.findall(r'^ +python -m tiger_jax.main (.*)', text, re.M)
  assert len(commands) == 8
  parsed = []
  for command in commands:
    with flagsaver.flagsaver():
      parsed.append(command_line.parse(['main.py', *shlex.split(command)]))
  assert [command.workdir for command in parsed] == [
    'runs/quickstart', 'runs/beauty_cpu', 'runs/my_shop', 'runs/own_data',
    'runs/quickstart', 'runs/quickstart', 'runs/quickstart', 'runs/table2_cpu',
  ]  # fmt: skip
  assert parsed[2].config.dataset.source_dir == 'my_shop'
  assert parsed[4].history == ('P0012', 'P0345')
  assert parsed[7].experiment is not None


@pytest.mark.parametrize(
  'arguments',
  [
    ['-h'], ['-help'], ['--help'], ['--help=true'], ['--helpfull'],
    ['--helpshort'], ['-?'], ['--cofnig=x', '--help'],
    ['--config=nowhere.py', '--mode=dat', '-h'],
  ],
)  # fmt: skip
def test_accepts_every_form_of_the_help_flag(arguments):
  assert command_line.parse(['main.py', *arguments]) is None


def test_help_does_not_import_jax(tmp_path):
  done = typed.python(
    '-X', 'importtime', '-m', 'tiger_jax.main', '--help', cwd=tmp_path
  )
  assert (done.code, done.out) == (0, help_text() + '\n')
  imported = _imported(done)
  assert 'absl' in imported
  assert not imported & {'jax', 'numpy', 'matplotlib', 'grain', 'flax'}


@pytest.mark.parametrize('config', ['baselines', 'paper/table1'])
def test_a_config_file_does_not_import_jax(config, tmp_path):
  done = typed.python(
    *('-X', 'importtime', '-m', 'tiger_jax.main'),
    f'--config={small.ROOT}/configs/{config}.py:nonsense',
    cwd=tmp_path,
  )
  assert done.code == 2 and 'nonsense' in done.err
  imported = _imported(done)
  assert 'absl' in imported
  assert not imported & {'jax', 'numpy', 'grain', 'flax'}


def _imported(done):
  """Returns the modules that a process has imported."""
  return {x.rpartition('|')[2].strip() for x in done.err.splitlines()}
