"""The Cloud TPU script, against a gcloud that only takes notes."""

import contextlib
import os
from pathlib import Path
import shlex
import signal
import subprocess
import time

import pytest

SCRIPT = Path(__file__).parents[2] / 'launch' / 'tpu.sh'
REPOSITORY = 'https://example.com/tiger jax.git'

# Answers the n-th call of a kind with the n-th word of what it was given for
# it, or the last one.
GCLOUD = r"""#!/usr/bin/env bash
kind=$4
case "$*" in
  *tiger_jax.main*) kind=main ;;
  *'git clone'*) kind=install ;;
  *mountpoint*) kind=setup ;;
esac
echo "$kind" >>"$NOTES/kinds"
printf '%q ' "$@" >>"$NOTES/calls"
echo >>"$NOTES/calls"
name=answers_$kind
read -r -a answers <<<"${!name:-0}"
call=$(grep -cx "$kind" "$NOTES/kinds")
answer=${answers[call - 1]:-${answers[-1]}}
case $answer in
  [0-9]*) exit "$answer" ;;
  WAIT) trap 'exit 255' INT; touch "$NOTES/waits"
    while :; do sleep 0.05; done ;;
  NOT_FOUND) echo "ERROR: (gcloud) NOT_FOUND: no such resource" >&2; exit 1 ;;
  *) echo "WARNING: there are updates" >&2; echo "$answer" ;;
esac
"""


def script(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)


@pytest.fixture(name='start')
def _start(tmp_path):
  script(tmp_path / 'bin' / 'gcloud', GCLOUD)

  def start(*arguments, answers=None, **environment):
    for name in ('kinds', 'calls'):
      (tmp_path / name).unlink(missing_ok=True)
    settings = {
      'PATH': f'{tmp_path}/bin:{os.environ["PATH"]}',
      'NOTES': str(tmp_path),
      'REPOSITORY': REPOSITORY,
      'WORKDIR': '/mnt/runs',
      'WAIT': '0',
    }
    given = {f'answers_{kind}': text for kind, text in (answers or {}).items()}
    return subprocess.Popen(
      ['bash', SCRIPT, *arguments],
      env=os.environ | settings | given | environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )

  return start


@pytest.fixture(name='tpu')
def _tpu(tmp_path, start):
  def run(*arguments, **settings):
    with start(*arguments, **settings) as process:
      out, error = process.communicate(timeout=60)
    done = subprocess.CompletedProcess(
      arguments, process.returncode, out, error
    )
    if not (tmp_path / 'kinds').exists():
      return done, [], []
    calls = (tmp_path / 'calls').read_text().splitlines()
    kinds = (tmp_path / 'kinds').read_text().split()
    return done, kinds, [shlex.split(call) for call in calls]

  return run


def remote(call):
  assert '--worker=all' in call
  return next(x for x in call if x.startswith('--command=')).partition('=')[2]


@pytest.mark.parametrize('command', ['create', 'run', 'resume', 'delete'])
@pytest.mark.parametrize('plain', [True, False])
def test_a_dry_run_prints_what_is_run(tpu, command, plain):
  settings = {} if plain else {
    'TPU_NAME': 'my cub',
    'PROJECT': 'my project',
    'WORKDIR': '/mnt/it\'s "here" $HOME',
    'FLAGS': "--config.semantic_ids.codebook_sizes='(8, 8, 8)'",
    'SETUP': 'mountpoint "/mnt/a b" || sudo mount',
    'SPOT': '0',
  }  # fmt: skip
  printed, none, _ = tpu(command, '--dry-run', **settings)
  first, _, _ = tpu('--dry-run', command, **settings)
  done, kinds, calls = tpu(
    command, answers={'describe': 'PREEMPTED'}, **settings
  )
  assert not none
  assert printed.returncode == done.returncode == 0
  assert printed.stdout == first.stdout
  lines = printed.stdout.splitlines()
  assert [shlex.split(line) for line in lines] == [
    ['gcloud', *call] for call in calls
  ]
  setup = [] if plain else ['setup']
  assert (
    kinds
    == {
      'create': ['create', 'install', *setup],
      'run': ['main'],
      'resume': ['describe', 'delete', 'create', 'install', *setup, 'main'],
      'delete': ['delete'],
    }[command]
  )


def test_create(tpu):
  _, _, calls = tpu('create', TPU_NAME='cub', ZONE='z', ACCELERATOR='v4-16')
  assert calls[0] == [
    'compute', 'tpus', 'tpu-vm', 'create', 'cub', '--zone=z',
    '--accelerator-type=v4-16', '--version=v2-alpha-tpuv5-lite', '--spot',
  ]  # fmt: skip
  _, _, calls = tpu('create', SPOT='0', PROJECT='p')
  assert '--spot' not in calls[0]
  assert all('--project=p' in call for call in calls)


def test_create_installs_nothing_where_nothing_was_made(tpu):
  done, kinds, _ = tpu('create', answers={'create': '7'})
  assert done.returncode == 7
  assert kinds == ['create']


def test_delete_does_not_ask(tpu):
  _, _, calls = tpu('delete', ZONE='z')
  assert calls == [
    ['compute', 'tpus', 'tpu-vm', 'delete', 'tiger', '--zone=z', '--quiet']
  ]


@pytest.fixture(name='host')
def _host(tmp_path):
  """Runs what a host is sent, with programs that only take notes."""
  home = tmp_path / 'host'
  note = f'printf "%s|" "$@" >>{shlex.quote(str(home))}/notes; '
  python = f'#!/usr/bin/env bash\n{note}exit ${{fails:-0}}\n'
  script(
    home / 'bin' / 'git',
    f'#!/usr/bin/env bash\n{note}mkdir "${{@: -1}}"\n',
  )
  script(
    home / 'bin' / 'python3',
    f'#!/usr/bin/env bash\n{note}\n'
    '[[ $2 != uv ]] && exit "${fails:-0}"\n'
    f'mkdir -p .venv/bin && cp {shlex.quote(str(home))}/python .venv/bin/pip\n'
    'cp .venv/bin/pip .venv/bin/python\n',
  )
  script(home / 'python', python)

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


def test_a_host_is_installed_once(tpu, host):
  _, _, calls = tpu('create', REPOSITORY=f'{REPOSITORY}#a branch')
  command = remote(calls[1])
  assert host(command, fails='9')[0] == 9
  code, words = host(command)  # The clone is there, the rest is done again.
  assert code == 0
  assert 'clone' not in words
  assert words[-4:] == ['install', '--quiet', '-e', '.[tpu,text]']
  assert host(command) == (0, [])


def test_a_host_gets_the_branch_of_the_repository(tpu, host):
  _, _, calls = tpu('create', REPOSITORY=f'{REPOSITORY}#a branch')
  _, words = host(remote(calls[1]))
  assert words[:7] == [
    'clone', '--quiet', '--branch', 'a branch', '--', REPOSITORY, 'tiger_jax',
  ]  # fmt: skip
  assert '--branch' not in remote(tpu('create')[2][1])


def test_a_host_runs_main_and_ends_as_it_does(tpu, host):
  _, _, calls = tpu('create')
  assert host(remote(calls[1]))[0] == 0
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


def test_run_ends_as_main_does(tpu):
  done, kinds, _ = tpu('run', answers={'main': '42'})
  assert done.returncode == 42
  assert kinds == ['main']


def test_ssh_notices_that_a_host_is_gone(tpu):
  _, _, (call,) = tpu('run')
  assert any('ServerAliveInterval' in word for word in call)


def test_resume_runs_what_is_ready(tpu):
  done, kinds, _ = tpu('resume', answers={'describe': 'READY'})
  assert done.returncode == 0
  assert kinds == ['describe', 'install', 'main']


@pytest.mark.parametrize('state', ['PREEMPTED', 'TERMINATED', 'STOPPED'])
def test_resume_makes_anew_what_was_taken(tpu, state):
  done, kinds, _ = tpu('resume', answers={'describe': state})
  assert done.returncode == 0
  assert kinds == ['describe', 'delete', 'create', 'install', 'main']


def test_resume_makes_what_is_missing(tpu):
  done, kinds, _ = tpu('resume', answers={'describe': 'NOT_FOUND'})
  assert done.returncode == 0
  assert kinds == ['describe', 'create', 'install', 'main']


def test_resume_takes_no_other_error_for_a_missing_vm(tpu):
  done, kinds, _ = tpu('resume', answers={'describe': '1'}, RETRIES='1')
  assert done.returncode == 1
  assert set(kinds) == {'describe'}


def test_resume_waits_for_what_is_on_its_way(tpu):
  states = 'CREATING STOPPING PREEMPTED'
  done, kinds, _ = tpu('resume', answers={'describe': states})
  assert done.returncode == 0
  assert kinds == [*['describe'] * 3, 'delete', 'create', 'install', 'main']


@pytest.mark.parametrize('code', [6, 42, 134, 143, 255])
def test_resume_goes_on_after_what_passes(tpu, code):
  answers = {'describe': 'READY', 'main': f'{code} {code} 0'}
  done, kinds, _ = tpu('resume', answers=answers)
  assert done.returncode == 0
  assert kinds.count('main') == 3
  assert not {'create', 'delete'} & set(kinds)


def test_resume_goes_on_where_the_vm_was_taken(tpu):
  # Of what, then, main ended with says nothing.
  answers = {'describe': 'READY PREEMPTED PREEMPTED', 'main': '1 0'}
  done, kinds, _ = tpu('resume', answers=answers)
  assert done.returncode == 0
  assert kinds == [
    'describe', 'install', 'main', 'describe',
    'describe', 'delete', 'create', 'install', 'main',
  ]  # fmt: skip


def test_resume_tries_again_to_get_a_vm(tpu):
  answers = {'describe': 'NOT_FOUND', 'create': '1 0'}
  done, kinds, _ = tpu('resume', answers=answers)
  assert done.returncode == 0
  assert kinds.count('create') == 2
  assert kinds[-2:] == ['install', 'main']


@pytest.mark.parametrize('code', [1, 2, 3, 4, 5])
def test_resume_does_not_repeat_an_error(tpu, code):
  answers = {'describe': 'READY', 'main': str(code)}
  done, kinds, _ = tpu('resume', answers=answers)
  assert done.returncode == code
  assert kinds.count('main') == 1


def test_ctrl_c_ends_all_tries(start, tmp_path):
  # What is ignored, as in the background of a shell, the script inherits so.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  run = start('resume', answers={'describe': 'READY', 'main': 'WAIT'})
  signal.signal(signal.SIGINT, before)
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
def test_resume_runs_nothing_on_a_host_that_is_not_ready(tpu, kind):
  answers = {'describe': 'READY', kind: '3'}
  done, kinds, _ = tpu('resume', answers=answers, SETUP='mountpoint /mnt')
  assert done.returncode == 3
  assert 'main' not in kinds


@pytest.mark.parametrize(
  ('answers', 'tried', 'code'),
  [
    ({'describe': 'READY', 'main': '42'}, 'main', 42),
    ({'describe': 'NOT_FOUND', 'create': '1'}, 'create', 1),
    ({'describe': 'PREEMPTED', 'delete': '1'}, 'delete', 1),
  ],
)
def test_resume_gives_up(tpu, answers, tried, code):
  done, kinds, _ = tpu('resume', answers=answers, RETRIES='2')
  assert done.returncode == code
  assert done.stderr.splitlines()[-1].startswith('error: not done after 2')
  assert kinds.count(tried) == 3
  assert kinds.count('main') == (3 if tried == 'main' else 0)


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
def test_mistakes_are_one_line(tpu, arguments, environment):
  done, kinds, _ = tpu(*arguments, **environment)
  assert done.returncode == 2
  assert done.stderr.startswith('error: ')
  assert done.stderr.count('\n') == 1
  assert not kinds


def test_one_host_may_keep_its_run_to_itself(tpu):
  done, kinds, _ = tpu('run', WORKDIR='')
  assert done.returncode == 0
  assert kinds == ['main']


def test_help_tells_every_setting(tpu):
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
  assert 's3cret' in ' '.join(tpu('create', REPOSITORY=secret)[2][1])


def test_flags_are_not_executed_on_a_host(tpu, host, tmp_path):
  text = f'$(touch {tmp_path}/ran) `touch {tmp_path}/ran` ;touch'
  _, _, calls = tpu('create')
  assert host(remote(calls[1]))[0] == 0
  _, _, (call,) = tpu('run', FLAGS=text)
  code, given = host(remote(call))
  assert code == 0
  assert given[given.index('--distributed') + 1 :] == text.split()
  assert not (tmp_path / 'ran').exists()


def test_flags_with_an_open_quote_are_refused(tpu):
  done, kinds, _ = tpu('run', FLAGS="--a='b")
  assert done.returncode == 2
  assert done.stderr == "error: FLAGS is --a='b: close its quotes\n"
  assert not kinds
