"""Tests that broken streams and Ctrl-C do not crash the program."""

import os
import pty
import shutil
import signal
import subprocess
import sys

import pytest

from tests import small, typed

BEGIN = 'from tiger_jax.runtime import console; console.begin(); '


@pytest.fixture(name='flags')
def _flags(trained, tmp_path):
  """Copies a run, and returns flags that repeat only its training."""
  shutil.copytree(trained, tmp_path / 'run')
  return ' '.join(
    f'"{x}"'
    for x in (
      *small.FLAGS, f'--config.dataset.source_dir={trained.parent / "shop"}',
      '--config.train.steps=15', '--mode=train', '--workdir=run',
    )
  )  # fmt: skip


def assert_trained(folder):
  metrics = (folder / 'run/metrics.jsonl').read_text()
  assert '"step": 15' in metrics
  assert not list(folder.glob('run/train.partial-*'))


def test_training_continues_without_a_reader(flags, tmp_path):
  script = f'$python -m tiger_jax.main {flags} 2>&- | head -n 1'
  done = typed.shell(script, cwd=tmp_path)
  assert done.code == 0, done.err
  assert len(done.out.splitlines()) == 1
  assert_trained(tmp_path)


def test_training_continues_without_its_terminal(flags, tmp_path):
  main, terminal = pty.openpty()
  process = subprocess.Popen(
    [
      'bash',
      '-c',
      f'trap "" HUP; exec {sys.executable} -m tiger_jax.main {flags}',
    ],
    cwd=tmp_path,
    env=typed.environment(tmp_path),
    stdin=terminal,
    stdout=terminal,
    stderr=terminal,
    start_new_session=True,
  )
  os.close(terminal)
  os.read(main, 1)
  os.close(main)
  assert process.wait(timeout=100) == 0
  assert_trained(tmp_path)


def test_recommend_without_a_reader_ends_silently(trained, tmp_path):
  """HOME is not a folder, but libraries print no warnings about it."""
  done = typed.shell(
    'unset JAX_COMPILATION_CACHE_DIR; $python -m tiger_jax.main '
    f'--mode=recommend --workdir={trained} --history=A003 | true',
    cwd=tmp_path,
    env={'HOME': '/dev/null'},
  )
  assert done == (0, '', '')


def test_output_to_a_full_disk_raises_an_error(tmp_path):
  program = BEGIN + "print('x'); console.end()"
  done = typed.shell(f'$python -c "{program}" > /dev/full', cwd=tmp_path)
  assert done.code == 3
  assert 'the output is incomplete' in done.refusal


@pytest.mark.parametrize(
  'redirection', ['>&-', '2>&-', '>&- 2>&-', '>&- 2>&- <&-', '| true']
)
def test_printing_to_closed_streams_is_not_an_error(tmp_path, redirection):
  program = BEGIN + (
    'import sys, time; time.sleep(0.2); '
    "print('x' * 99999); print('y' * 99999, file=sys.stderr, flush=True); "
    'sys.stdout.flush(); assert not sys.stdout.isatty(); console.end()'
  )
  done = typed.shell(f'$python -c "{program}" {redirection}', cwd=tmp_path)
  assert done.code == 0, done.err
  assert 'Error' not in done.err


def test_a_new_file_does_not_get_the_descriptor_of_a_closed_stream(tmp_path):
  program = BEGIN + (
    "import os; file = open('data', 'w'); assert file.fileno() > 2; "
    "os.write(1, b'noise'); os.write(2, b'noise')"
  )
  done = typed.shell(f'$python -c "{program}" <&- >&- 2>&-', cwd=tmp_path)
  assert done.code == 0
  assert (tmp_path / 'data').read_text() == ''


def test_a_full_non_blocking_pipe_loses_no_output(tmp_path):
  program = BEGIN + (
    "os = console.os; os.set_blocking(1, False); print('x' * 1_000_000); "
    'console.end()'
  )
  done = typed.shell(
    f'$python -c "{program}" | (sleep 0.5; wc -c)', cwd=tmp_path
  )
  assert (done.code, done.out.strip()) == (0, '1000001')


@pytest.mark.parametrize(
  'env',
  [
    {'PYTHONIOENCODING': 'ascii'},
    {'PYTHONIOENCODING': 'latin-1'},
    {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
    {'PYTHONIOENCODING': 'utf-8'},
  ],
  ids=str,
)
def test_replaces_characters_that_an_encoding_lacks(tmp_path, env):
  program = BEGIN + (
    "import sys; text = 'a \\u2603 \\udce9 \\U0001f600 z'; print(text); "
    'print(text, file=sys.stderr); console.end()'
  )
  done = typed.python('-c', program, cwd=tmp_path, env=env)
  assert done.code == 0, done.err
  middle = '\u2603 ? \U0001f600' if 'utf-8' in env.values() else '? ? ?'
  assert done.out == done.err == f'a {middle} z\n'


@pytest.mark.parametrize(
  ('module', 'code', 'message'),
  [
    ('tiger_jax.runtime', -signal.SIGINT, ''),  # Too early for a message.
    ('absl.flags', 130, 'stopped\n'),
    ('jax', 130, 'stopped\n'),
    ('tiger_jax.pipeline', 130, 'stopped\n'),
  ],
)
def test_ctrl_c_during_an_import_prints_no_traceback(
  tmp_path, module, code, message
):
  typed.interrupt_import(tmp_path, module)
  (tmp_path / 'run').mkdir()
  done = typed.run(
    '--mode=recommend', '--workdir=run', '--history=A',
    cwd=tmp_path,
    env={'PYTHONPATH': f'{tmp_path}:{small.ROOT}'},
  )  # fmt: skip
  assert done == (code, '', message)


def test_a_background_job_ignores_ctrl_c(tmp_path):
  program = BEGIN + (
    'import signal; signal.raise_signal(signal.SIGINT); '
    'console.raise_interrupts(); signal.raise_signal(signal.SIGINT)'
  )
  script = f"trap '' INT; $python -c '{program}'"
  assert typed.shell(script, cwd=tmp_path) == (0, '', '')
