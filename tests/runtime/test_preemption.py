import os
import signal
import subprocess
import sys
import threading

import pytest

from tiger_jax.runtime.preemption import StopSignal, exit_on_signals


def test_notes_the_signal_and_puts_the_handler_back():
  seen = []
  before = signal.signal(signal.SIGTERM, lambda *unused: seen.append(1))
  try:
    ours = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
      assert not stop.received
      os.kill(os.getpid(), signal.SIGTERM)
      assert stop.received
      os.kill(os.getpid(), signal.SIGTERM)  # A second one does not end it.
    assert signal.getsignal(signal.SIGTERM) is ours
    assert not seen
    with StopSignal() as stop:
      assert not stop.received
  finally:
    signal.signal(signal.SIGTERM, before)


def test_only_a_second_ctrl_c_interrupts():
  with StopSignal() as stop:
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.received
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)


def test_the_handler_is_put_back_after_an_error():
  before = signal.getsignal(signal.SIGTERM)
  try:
    with StopSignal():
      assert signal.getsignal(signal.SIGTERM) is not before
      raise KeyError
  except KeyError:
    pass
  assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_go_without():
  found = []

  def work():
    with StopSignal() as stop:
      found.append(stop.received)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert found == [False]


def test_a_closed_terminal_is_a_request_to_stop():
  before = signal.getsignal(signal.SIGHUP)
  with StopSignal() as stop:
    os.kill(os.getpid(), signal.SIGHUP)
    assert stop.received
    os.kill(os.getpid(), signal.SIGHUP)
  assert signal.getsignal(signal.SIGHUP) is before


def test_nohup_keeps_its_effect():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    exit_on_signals()
    with StopSignal() as stop:
      os.kill(os.getpid(), signal.SIGHUP)
      assert not stop.received
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_handler_of_a_library_in_c_ends_as_the_default(monkeypatch):
  """Python cannot restore such a handler."""
  set_handler = signal.signal
  monkeypatch.setattr(
    signal, 'signal', lambda *args: set_handler(*args) and None
  )
  before = signal.getsignal(signal.SIGTERM)
  try:
    with StopSignal() as stop:
      os.kill(os.getpid(), signal.SIGTERM)
      assert stop.received
  finally:
    set_handler(signal.SIGTERM, before)
    set_handler(signal.SIGINT, signal.default_int_handler)
    set_handler(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGHUP'])
@pytest.mark.parametrize('has_stderr', [True, False])
def test_a_signal_ends_a_stage_that_saves_nothing(name, has_stderr):
  program = (
    'import os, signal\n'
    'from tiger_jax.runtime.preemption import exit_on_signals\n'
    f'{"" if has_stderr else "os.close(2)"}\n'
    'exit_on_signals()\n'
    'try:\n'
    f'  os.kill(os.getpid(), signal.{name})\n'
    'finally:\n'
    '  print("went on")\n'
  )
  ended = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True
  )
  assert ended.returncode == 42
  if has_stderr:
    assert ended.stderr == (
      '\nerror: asked to stop; run the same command to resume\n'
    )
  assert ended.stdout == ''


def test_training_saves_all_the_same():
  before = signal.getsignal(signal.SIGTERM)
  try:
    exit_on_signals()
    leaving = signal.getsignal(signal.SIGTERM)
    assert leaving is not before
    with StopSignal() as stop:
      os.kill(os.getpid(), signal.SIGTERM)
      assert stop.received
    assert signal.getsignal(signal.SIGTERM) is leaving
  finally:
    signal.signal(signal.SIGTERM, before)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
