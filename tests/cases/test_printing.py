"""Tests that training continues if stdout and stderr are broken."""

import errno
import os
import sys

import pytest

from tests import typed
from tests.training.running import STEPS, Counter, Run
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.runtime.printing import SafeStream, say, warn
from tiger_jax.runtime.writers import progress_line, say_above
from tiger_jax.training import loop


class Broken:
  """A stream that raises an error in every method."""

  encoding = 'utf-8'

  def __init__(self, error):
    self.error = error

  def write(self, text):
    raise self.error

  flush = isatty = fileno = lambda self, *unused: self.write('')


def closed():
  with open(os.devnull, 'w') as file:
    return file


STREAMS = {
  'none': None,
  'closed': closed(),
  'pipe': Broken(BrokenPipeError(errno.EPIPE, 'Broken pipe')),
  'terminal': Broken(OSError(errno.EIO, 'Input/output error')),
  'full': Broken(OSError(errno.ENOSPC, 'No space left on device')),
  'ascii': Broken(UnicodeEncodeError('ascii', 'é', 0, 1, 'not in range')),
}


@pytest.fixture(name='broken', params=list(STREAMS))
def _broken(request, monkeypatch):
  """Returns a function that replaces stdout and stderr with a broken stream."""

  def break_streams():
    monkeypatch.setattr(sys, 'stdout', STREAMS[request.param])
    monkeypatch.setattr(sys, 'stderr', STREAMS[request.param])

  return break_streams


def test_training_continues_with_broken_streams(tmp_path, broken):
  broken()
  run = Run(
    tmp_path,
    evaluate=lambda params: {'score': float(params['count'])},
    best_metric='score',
  )
  assert run(Counter())['count'] == STEPS
  assert run.saved() == [5, 10]
  assert run.steps('score') == [5, 10]


def test_warnings_do_not_fail_with_broken_streams(tmp_path, broken):
  broken()
  run = Run(tmp_path)
  run(Counter())
  (tmp_path / 'checkpoints' / '10' / 'meta.json').unlink()
  assert run(Counter())['count'] == STEPS
  assert run.saved() == [5, 10]


def test_the_progress_line_does_not_fail_with_broken_streams(broken):
  broken()
  with progress_line('train', 10) as bar:
    bar.set_postfix({'loss': 1.0})
    bar.update(5)
    bar.refresh()
    say_above(bar, 'é')
  say('é')
  warn('é')


def test_prints_to_a_working_stream(capsys):
  with progress_line('train', 10) as bar:
    bar.update(5)
    say_above(bar, 'é')
  warn('warned')
  out, err = capsys.readouterr()
  assert out == 'é\n'
  assert '5/10' in err
  assert err.endswith('warned\n')
  assert SafeStream(sys.stdout).encoding == sys.stdout.encoding


def test_saves_the_state_before_printing(tmp_path, monkeypatch):
  def die(*unused):
    raise SystemExit

  monkeypatch.setattr(loop, 'say_above', die)
  run = Run(
    tmp_path, evaluate=lambda params: {'score': 0.5}, best_metric='score'
  )
  with pytest.raises(SystemExit):
    run(Counter())
  assert run.saved() == [5]
  with Checkpoints(tmp_path / 'checkpoints', {}, 'score') as checkpoints:
    assert checkpoints.by_metric() == [5]


PROGRAM = """
import os, pathlib, signal, sys
from tests.training.running import Counter, Run
from tiger_jax.errors import Preempted
run = Run(pathlib.Path(sys.argv[1]), evaluate=lambda params: {'score': 0.5},
          best_metric='score')
# The terminal is closed when the batch of step 7 is requested.
def close(start, stop):
  for number in run.counting(start, stop):
    if int(number[0][0]) == 6 and len(sys.argv) > 2:
      os.kill(os.getpid(), signal.SIGHUP)
    yield number
try:
  run(Counter(), close)
except Preempted:
  os._exit(42)
os._exit(0)
"""


def test_training_continues_if_a_shell_closes_its_streams(tmp_path):
  """Run `a` writes to a pipe without a reader, and has no stderr.

  Run `b` loses its terminal.
  """
  (tmp_path / 'program.py').write_text(PROGRAM)
  done = typed.shell(
    """
    (trap '' PIPE; "$python" program.py a 2>&-; echo $? > code) | true
    "$python" program.py b close
    echo $? >> code
    """,
    cwd=tmp_path,
  )
  assert done.code == 0, done.err
  assert (tmp_path / 'code').read_text().split() == ['0', '42']
  assert Run(tmp_path / 'a').saved() == [5, 10]
  assert Run(tmp_path / 'b').saved() == [5, 7]
  assert Run(tmp_path / 'b').goodput()[0]['to'] == 7
