"""Tests of the handling of stop signals."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tiger_jax.runtime.preemption import StopSignal, exit_on_signals


def test_a_signal_is_recorded_and_the_handler_is_restored():
  calls = []
  before = signal.signal(signal.SIGTERM, lambda *unused: calls.append(1))
  try:
    handler = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
      assert not stop.received
      os.kill(os.getpid(), signal.SIGTERM)
      assert stop.received
      os.kill(os.getpid(), signal.SIGTERM)  # The second signal has no effect.
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not calls
    with StopSignal() as stop:
      assert not stop.received
  finally:
    signal.signal(signal.SIGTERM, before)


def test_the_second_ctrl_c_interrupts():
  with StopSignal() as stop:
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.received
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)


def test_the_handler_is_restored_after_an_error():
  before = signal.getsignal(signal.SIGTERM)
  try:
    with StopSignal():
      assert signal.getsignal(signal.SIGTERM) is not before
      raise KeyError
  except KeyError:
    pass
  assert signal.getsignal(signal.SIGTERM) is before


def test_only_the_main_thread_installs_handlers():
  received = []

  def work():
    with StopSignal() as stop:
      received.append(stop.received)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert received == [False]


def test_sighup_is_recorded():
  before = signal.getsignal(signal.SIGHUP)
  with StopSignal() as stop:
    os.kill(os.getpid(), signal.SIGHUP)
    assert stop.received
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.name == 'SIGHUP'
  assert signal.getsignal(signal.SIGHUP) is before


def test_an_ignored_sighup_stays_ignored():
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


def test_a_handler_in_c_is_replaced_by_the_default(monkeypatch):
  """Python reports a handler in C as None, so it cannot be restored."""
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
def test_exit_on_signals_ends_the_process(name, has_stderr):
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
      f'\nstopped by {name}; run the same command to resume\n'
    )
  assert ended.stdout == ''


def test_a_stop_signal_replaces_exit_on_signals():
  before = signal.getsignal(signal.SIGTERM)
  try:
    exit_on_signals()
    handler = signal.getsignal(signal.SIGTERM)
    assert handler is not before
    with StopSignal() as stop:
      os.kill(os.getpid(), signal.SIGTERM)
      assert stop.received
    assert signal.getsignal(signal.SIGTERM) is handler
  finally:
    signal.signal(signal.SIGTERM, before)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
