"""Tests `tpu.sh resume` with a fake gcloud."""

import contextlib
import os
import signal
import time

import pytest


def test_resume_runs_on_a_vm_that_is_ready(tpu):
  done, kinds, _ = tpu('resume', answers={'describe': 'READY'})
  assert done.returncode == 0
  assert kinds == ['describe', 'install', 'main']


@pytest.mark.parametrize('state', ['PREEMPTED', 'TERMINATED', 'STOPPED'])
def test_resume_recreates_a_preempted_vm(tpu, state):
  done, kinds, _ = tpu('resume', answers={'describe': f'{state} READY'})
  assert done.returncode == 0
  assert kinds == [
    'describe', 'delete', 'create', 'describe', 'install', 'main'
  ]  # fmt: skip


@pytest.mark.parametrize('state', ['FAILED', 'SUSPENDED'])
def test_resume_repeats_a_request_that_has_ended(tpu, state):
  done, kinds, _ = tpu('resume', answers={'queue': state})
  assert done.returncode == 0
  assert kinds == [
    'describe', 'queue', 'delete', 'create', 'describe', 'install', 'main'
  ]  # fmt: skip


def test_resume_creates_a_missing_vm(tpu):
  done, kinds, _ = tpu('resume')
  assert done.returncode == 0
  assert kinds == [
    'describe', 'queue', 'create', 'describe', 'install', 'main'
  ]  # fmt: skip


@pytest.mark.parametrize(
  'answers', [{'describe': '1'}, {'describe': 'NOT_FOUND', 'queue': '1'}]
)
def test_resume_creates_no_vm_if_its_state_is_unknown(tpu, answers):
  done, kinds, _ = tpu('resume', answers=answers, RETRIES='1')
  assert done.returncode == 1
  assert not {*kinds} - {'describe', 'queue'}


def test_resume_waits_while_the_vm_changes_state(tpu):
  states = 'CREATING STOPPING PREEMPTED READY'
  done, kinds, _ = tpu('resume', answers={'describe': states}, RETRIES='0')
  assert done.returncode == 0
  assert kinds == [
    *['describe'] * 3, 'delete', 'create', 'describe', 'install', 'main'
  ]  # fmt: skip


@pytest.mark.parametrize('code', [6, 42, 134, 143, 255])
def test_resume_restarts_after_a_transient_failure(tpu, code):
  answers = {'describe': 'READY', 'main': f'{code} {code} 0'}
  done, kinds, _ = tpu('resume', answers=answers)
  assert done.returncode == 0
  assert kinds.count('main') == 3
  assert not {'create', 'delete'} & set(kinds)


def test_resume_restarts_if_the_vm_was_preempted(tpu):
  # The exit code of main is irrelevant after a preemption.
  answers = {'describe': 'READY PREEMPTED PREEMPTED READY', 'main': '1 0'}
  done, kinds, _ = tpu('resume', answers=answers)
  assert done.returncode == 0
  assert kinds == [
    'describe', 'install', 'main', 'describe',
    'describe', 'delete', 'create', 'describe', 'install', 'main',
  ]  # fmt: skip


def test_resume_retries_the_creation_of_a_vm(tpu):
  states = 'NOT_FOUND NOT_FOUND NOT_FOUND READY'
  answers = {'describe': states, 'create': '1 0'}
  done, kinds, _ = tpu('resume', answers=answers)
  assert done.returncode == 0
  assert kinds.count('create') == 2
  assert kinds[-2:] == ['install', 'main']


@pytest.mark.parametrize('code', [1, 2, 3, 4, 5])
def test_resume_does_not_retry_a_permanent_error(tpu, code):
  answers = {'describe': 'READY', 'main': str(code)}
  done, kinds, _ = tpu('resume', answers=answers)
  assert done.returncode == code
  assert kinds.count('main') == 1


def test_ctrl_c_ends_all_attempts(start_tpu, tmp_path):
  # Without a handler, the script could inherit an ignored SIGINT, which shells
  # set for background jobs.
  old_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
  run = start_tpu('resume', answers={'describe': 'READY', 'main': 'WAIT'})
  signal.signal(signal.SIGINT, old_handler)
  try:
    deadline = time.monotonic() + 20
    while not (tmp_path / 'waits').exists():
      assert time.monotonic() < deadline
      time.sleep(0.02)
    os.killpg(run.pid, signal.SIGINT)
    run.communicate(timeout=20)
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
  assert run.returncode == 130
  kinds = (tmp_path / 'kinds').read_text().split()
  assert kinds == ['describe', 'install', 'main']


@pytest.mark.parametrize('kind', ['install', 'setup'])
def test_resume_stops_if_the_setup_of_a_host_fails(tpu, kind):
  answers = {'describe': 'READY', kind: '3'}
  done, kinds, _ = tpu('resume', answers=answers, SETUP='mountpoint /mnt')
  assert done.returncode == 3
  assert 'main' not in kinds


@pytest.mark.parametrize(
  ('answers', 'failing', 'code'),
  [
    ({'describe': 'READY', 'main': '42'}, 'main', 42),
    ({'describe': 'NOT_FOUND', 'create': '1'}, 'create', 1),
    ({'describe': 'PREEMPTED', 'delete': '1'}, 'delete', 1),
    ({'describe': 'PREEMPTED'}, 'create', 255),
  ],
)
def test_resume_gives_up_after_the_maximum_number_of_restarts(
  tpu, answers, failing, code
):
  done, kinds, _ = tpu('resume', answers=answers, RETRIES='2')
  assert done.returncode == code
  assert done.stderr.splitlines()[-1].startswith('error: not finished after 2')
  assert kinds.count(failing) == 3
  assert kinds.count('main') == (3 if failing == 'main' else 0)
