"""Tests the Cloud TPU script with a fake gcloud."""

import os
import shlex
import subprocess

import pytest

from tests.launch.conftest import (
  REPOSITORY,
  SCRIPT,
  check_syntax,
  write_script,
)


def call_of(kind, result):
  _, kinds, calls = result
  return calls[kinds.index(kind)]


def remote(call):
  assert '--worker=all' in call
  return next(x for x in call if x.startswith('--command=')).partition('=')[2]


@pytest.mark.parametrize('command', ['create', 'run', 'resume', 'delete'])
@pytest.mark.parametrize('is_default', [True, False])
def test_dry_run_prints_the_commands(tpu, command, is_default):
  settings = {} if is_default else {
    'TPU_NAME': 'my cub',
    'PROJECT': 'my project',
    'WORKDIR': '/mnt/it\'s "here" $HOME',
    'FLAGS': "--config.semantic_ids.codebook_sizes='(8, 8, 8)'",
    'SETUP': 'mountpoint "/mnt/a b" || sudo mount',
    'SPOT': '0',
  }  # fmt: skip
  printed, no_calls, _ = tpu(command, '--dry-run', **settings)
  swapped, _, _ = tpu('--dry-run', command, **settings)
  states = 'NOT_FOUND READY' if command == 'create' else 'PREEMPTED READY'
  done, kinds, calls = tpu(command, answers={'describe': states}, **settings)
  assert not no_calls
  assert printed.returncode == done.returncode == 0
  assert printed.stdout == swapped.stdout
  lines = printed.stdout.splitlines()
  changes = [
    (kind, ['gcloud', *call])
    for kind, call in zip(kinds, calls, strict=True)
    if kind not in ('describe', 'queue')
  ]
  assert [shlex.split(line) for line in lines] == [call for _, call in changes]
  setup = [] if is_default else ['setup']
  assert [kind for kind, _ in changes] == {
    'create': ['create', 'install', *setup],
    'run': ['main'],
    'resume': ['delete', 'create', 'install', *setup, 'main'],
    'delete': ['delete'],
  }[command]


def test_create_passes_the_settings_to_gcloud(tpu):
  result = tpu('create', TPU_NAME='cub', ZONE='z', ACCELERATOR='v4-16')
  assert call_of('create', result) == [
    'compute', 'tpus', 'queued-resources', 'create', 'cub', '--zone=z',
    '--node-id=cub', '--accelerator-type=v4-16',
    '--runtime-version=v2-alpha-tpuv5-lite', '--spot',
  ]  # fmt: skip
  result = tpu('create', SPOT='0', PROJECT='p')
  assert '--spot' not in call_of('create', result)
  assert all('--project=p' in call for call in result[2])


@pytest.mark.parametrize(
  'wrong',
  [
    'tpu-vm create cub --zone=z --accelerator-type=v4-8 --version=v',
    'queued-resources create cub --zone=z --node-id=cub --runtime-version=v',
    'queued-resources delete cub --zone=z --forced',
    'queued-resources delete cub --zone=z --force=yes',
    'tpu-vm ssh cub --zone=z --command',
    'tpu-vm ssh --zone=z --command=ls',
  ],
)
def test_the_fake_gcloud_knows_the_syntax(wrong):
  with pytest.raises(AssertionError):
    check_syntax(['gcloud', 'compute', 'tpus', *wrong.split()])


def test_create_stops_after_a_failure(tpu):
  done, kinds, _ = tpu('create', answers={'create': '7'})
  assert done.returncode == 7
  assert kinds == ['describe', 'queue', 'create']


def test_create_waits_for_the_vm(tpu):
  answers = {
    'describe': 'NOT_FOUND NOT_FOUND NOT_FOUND CREATING READY',
    'queue': 'NOT_FOUND WAITING_FOR_RESOURCES PROVISIONING',
  }
  done, kinds, _ = tpu('create', answers=answers)
  assert done.returncode == 0
  assert kinds == [
    'describe', 'queue', 'create', 'describe', 'queue', 'describe', 'queue',
    'describe', 'describe', 'install',
  ]  # fmt: skip
  assert done.stderr.splitlines() == [
    'tiger is MISSING', 'tiger is WAITING_FOR_RESOURCES',
    'tiger is PROVISIONING', 'tiger is CREATING',
  ]  # fmt: skip


def test_create_waits_for_an_earlier_request(tpu):
  answers = {'queue': 'WAITING_FOR_RESOURCES'}
  done, kinds, _ = tpu('create', answers=answers)
  assert done.returncode == 0
  assert kinds == ['describe', 'queue', 'describe', 'install']


def test_create_stops_if_the_request_fails(tpu):
  answers = {'describe': 'NOT_FOUND', 'queue': 'NOT_FOUND FAILED'}
  done, kinds, _ = tpu('create', answers=answers)
  assert done.returncode == 255
  last = done.stderr.splitlines()[-1]
  assert last == 'tiger is FAILED There is no quota: 0'
  assert kinds == ['describe', 'queue', 'create', 'describe', 'queue']


def test_delete_does_not_ask_for_confirmation(tpu):
  _, _, calls = tpu('delete', ZONE='z')
  assert calls == [
    ['compute', 'tpus', 'queued-resources', 'delete', 'tiger', '--zone=z',
     '--force', '--quiet'],
  ]  # fmt: skip


@pytest.fixture(name='host')
def _host(tmp_path):
  """Returns a function that runs the command of a host with fake programs.

  The function returns the exit code, and the words of all recorded calls.
  """
  home = tmp_path / 'host'
  note = f'printf "%s|" "$@" >>{shlex.quote(str(home))}/notes; '
  python = f'#!/usr/bin/env bash\n{note}exit ${{fails:-0}}\n'
  write_script(
    home / 'bin' / 'git',
    f'#!/usr/bin/env bash\n{note}mkdir "${{@: -1}}"\n',
  )
  write_script(
    home / 'bin' / 'python3',
    f'#!/usr/bin/env bash\n{note}\n'
    '[[ $2 != uv ]] && exit "${fails:-0}"\n'
    f'mkdir -p .venv/bin && cp {shlex.quote(str(home))}/python .venv/bin/pip\n'
    'cp .venv/bin/pip .venv/bin/python\n',
  )
  write_script(home / 'python', python)

  def run(command, **environment):
    (home / 'notes').unlink(missing_ok=True)
    path = f'{home}/bin:{os.environ["PATH"]}'
    done = subprocess.run(
      ['bash', '-c', command],
      cwd=home,
      env=os.environ | {'PATH': path} | environment,
      timeout=60,
    )
    notes = home / 'notes'
    words = notes.read_text().split('|')[:-1] if notes.exists() else []
    return done.returncode, words

  return run


def test_create_installs_a_host_once(tpu, host):
  result = tpu('create', REPOSITORY=f'{REPOSITORY}#a branch')
  command = remote(call_of('install', result))
  assert host(command, fails='9')[0] == 9
  code, words = host(command)  # The first clone is kept.
  assert code == 0
  assert 'clone' not in words
  assert words[-4:] == ['install', '--quiet', '-e', '.[tpu,text]']
  assert host(command) == (0, [])


def test_create_clones_the_branch(tpu, host):
  result = tpu('create', REPOSITORY=f'{REPOSITORY}#a branch')
  _, words = host(remote(call_of('install', result)))
  assert words[:7] == [
    'clone', '--quiet', '--branch', 'a branch', '--', REPOSITORY, 'tiger_jax',
  ]  # fmt: skip
  assert '--branch' not in remote(call_of('install', tpu('create')))


def test_a_host_passes_flags_to_main_and_returns_its_exit_code(tpu, host):
  assert host(remote(call_of('install', tpu('create'))))[0] == 0
  _, _, (call,) = tpu(
    'run',
    CONFIG='configs/sports.py',
    WORKDIR='/mnt/it\'s "here" $HOME',
    FLAGS="--config.seed=1 --config.semantic_ids.codebook_sizes='(8, 8, 8)'",
  )
  assert host(remote(call), fails='42') == (42, [
    '-m', 'tiger_jax.main', '--config=configs/sports.py',
    '--workdir=/mnt/it\'s "here" $HOME', '--distributed', '--config.seed=1',
    '--config.semantic_ids.codebook_sizes=(8, 8, 8)',
  ])  # fmt: skip
  _, _, (call,) = tpu('run')
  assert host(remote(call))[1][-1] == '--distributed'


def test_run_returns_the_exit_code_of_main(tpu):
  done, kinds, _ = tpu('run', answers={'main': '42'})
  assert done.returncode == 42
  assert kinds == ['main']


def test_ssh_detects_a_lost_host(tpu):
  _, _, (call,) = tpu('run')
  assert any('ServerAliveInterval' in word for word in call)


@pytest.mark.parametrize(
  ('arguments', 'environment'),
  [
    ((), {}),
    (('start',), {}),
    (('run', '--dryrun'), {}),
    (('run', 'delete'), {}),
    (('create',), {'REPOSITORY': ''}),
    (('resume',), {'REPOSITORY': ''}),
    (('create',), {'SPOT': 'yes'}),
    (('resume',), {'RETRIES': 'many'}),
    (('create',), {'ACCELERATOR': 'v5e'}),
    (('run',), {'ACCELERATOR': 'v5litepod-16', 'WORKDIR': 'runs/x'}),
    (('resume',), {'WORKDIR': ''}),
  ],
)
def test_invalid_settings_are_refused_in_one_line(tpu, arguments, environment):
  done, kinds, _ = tpu(*arguments, **environment)
  assert done.returncode == 2
  assert done.stderr.startswith('error: ')
  assert done.stderr.count('\n') == 1
  assert not kinds


def test_one_host_may_use_a_local_workdir(tpu):
  done, kinds, _ = tpu('run', WORKDIR='')
  assert done.returncode == 0
  assert kinds == ['main']


def test_help_lists_every_setting(tpu):
  done, _, _ = tpu('--help', TPU_NAME='cub')
  assert done.returncode == 0
  assert 'TPU_NAME=cub' in done.stdout
  settings = [
    line.partition('=')[0]
    for line in SCRIPT.read_text().splitlines()
    if line.partition('=')[2].startswith('${') and line[0].isupper()
  ]
  assert len(settings) > 10
  for name in settings:
    assert f'  {name}=' in done.stdout


@pytest.mark.parametrize('arguments', [['--help'], ['create', '--dry-run']])
@pytest.mark.parametrize(
  ('secret', 'shown'),
  [
    ('https://oauth2:s3cret@x.org/a.git', 'https://HIDDEN@x.org/a.git'),
    ('https://u:a@s3cret@x.org/a.git', 'https://HIDDEN@x.org/a.git'),
    ('HTTPS://u:a/s3cret@x.org/a.git', 'HTTPS://HIDDEN@x.org/a.git'),
    ('ssh://u:s3cret@x.org/a.git', 'ssh://HIDDEN@x.org/a.git'),
    ('https://x.org/a.git?token=s3cret', 'https://x.org/a.git'),
  ],
)
def test_a_token_is_not_printed(tpu, arguments, secret, shown):
  done, _, _ = tpu(*arguments, REPOSITORY=secret)
  assert done.returncode == 0
  assert 's3cret' not in done.stdout + done.stderr
  assert shown in done.stdout
  # The host that clones the repository gets the token.
  call = call_of('install', tpu('create', REPOSITORY=secret))
  assert 's3cret' in remote(call)


def test_flags_are_not_executed_on_a_host(tpu, host, tmp_path):
  text = f'$(touch {tmp_path}/ran) `touch {tmp_path}/ran` ;touch'
  assert host(remote(call_of('install', tpu('create'))))[0] == 0
  _, _, (call,) = tpu('run', FLAGS=text)
  code, words = host(remote(call))
  assert code == 0
  assert words[words.index('--distributed') + 1 :] == text.split()
  assert not (tmp_path / 'ran').exists()


def test_flags_with_an_open_quote_are_refused(tpu):
  done, kinds, _ = tpu('run', FLAGS="--a='b")
  assert done.returncode == 2
  assert done.stderr == "error: FLAGS is --a='b: close its quotes\n"
  assert not kinds
