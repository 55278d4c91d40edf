"""The Cloud TPU script, against a gcloud that only takes notes."""

import json
import os
from pathlib import Path
import shlex
import subprocess
import sys

import pytest

SCRIPT = Path(__file__).parents[2] / 'launch' / 'tpu.sh'
REPOSITORY = 'https://example.com/tiger jax.git'

# Answers the n-th call of a kind with the n-th of what it was given for it.
STUB = """#!{python}
import json, os, pathlib, sys
notes = pathlib.Path(os.environ['NOTES'])
calls = json.loads(notes.read_text()) if notes.exists() else []
verb = sys.argv[4]
before = sum(call[3] == verb for call in calls)
notes.write_text(json.dumps([*calls, sys.argv[1:]]))
answers = json.loads(os.environ['ANSWERS']).get(verb, [0])
answer = answers[min(before, len(answers) - 1)]
if isinstance(answer, str):
  print(answer)
else:
  sys.exit(answer)
"""


@pytest.fixture(name='tpu')
def _tpu(tmp_path):
  stub = tmp_path / 'bin' / 'gcloud'
  stub.parent.mkdir()
  stub.write_text(STUB.format(python=sys.executable))
  stub.chmod(0o755)
  notes = tmp_path / 'notes.json'

  def run(*arguments, answers=None, **environment):
    notes.unlink(missing_ok=True)
    done = subprocess.run(
      ['bash', SCRIPT, *arguments],
      env=os.environ
      | {
        'PATH': f'{stub.parent}:{os.environ["PATH"]}',
        'NOTES': str(notes),
        'ANSWERS': json.dumps(answers or {}),
        'REPOSITORY': REPOSITORY,
        'WAIT': '0',
      }
      | environment,
      capture_output=True,
      text=True,
    )
    calls = json.loads(notes.read_text()) if notes.exists() else []
    return done, calls

  return run


def verbs(calls):
  return [call[3] for call in calls]


@pytest.mark.parametrize('command', ['create', 'run', 'delete'])
@pytest.mark.parametrize('project', ['', 'my project'])
def test_a_dry_run_prints_what_is_run(tpu, command, project):
  settings = {'PROJECT': project, 'WORKDIR': '/mnt/it\'s "here"'}
  printed, none = tpu(command, '--dry-run', **settings)
  done, calls = tpu(command, **settings)
  assert not none
  assert printed.returncode == done.returncode == 0
  assert calls
  lines = printed.stdout.splitlines()
  assert [shlex.split(line) for line in lines] == [
    ['gcloud', *call] for call in calls
  ]


def test_create(tpu):
  _, calls = tpu('create', TPU_NAME='cub', ZONE='z', ACCELERATOR='v4-16')
  assert calls[0] == [
    'compute', 'tpus', 'tpu-vm', 'create', 'cub', '--zone=z',
    '--accelerator-type=v4-16', '--version=v2-alpha-tpuv5-lite', '--spot',
  ]  # fmt: skip
  assert calls[1][3:7] == ['ssh', 'cub', '--zone=z', '--worker=all']
  _, calls = tpu('create', SPOT='0')
  assert '--spot' not in calls[0]


def remote(call):
  return next(x for x in call if x.startswith('--command=')).partition('=')[2]


def test_the_hosts_get_a_branch_of_the_repository(tpu):
  _, calls = tpu('create', REPOSITORY=f'{REPOSITORY}#a branch')
  words = shlex.split(remote(calls[1]))
  start = words.index('clone')
  assert words[start + 1 : start + 6] == [
    '--branch', 'a branch', '--', REPOSITORY, 'tiger_jax',
  ]  # fmt: skip


def test_run_starts_all_hosts(tpu):
  _, calls = tpu(
    'run', CONFIG='configs/sports.py', WORKDIR='/a b', FLAGS='--config.seed=1'
  )
  (call,) = calls
  assert '--worker=all' in call
  words = shlex.split(remote(call))
  assert words[-5:] == [
    'tiger_jax.main', '--config=configs/sports.py', '--workdir=/a b',
    '--distributed', '--config.seed=1',
  ]  # fmt: skip


def test_resume_runs_what_is_ready(tpu):
  done, calls = tpu('resume', answers={'describe': ['READY']})
  assert done.returncode == 0
  assert verbs(calls) == ['describe', 'ssh']


@pytest.mark.parametrize('state', ['PREEMPTED', 'TERMINATED', 'STOPPED'])
def test_resume_makes_anew_what_was_taken(tpu, state):
  done, calls = tpu('resume', answers={'describe': [state]})
  assert done.returncode == 0
  assert verbs(calls) == ['describe', 'delete', 'create', 'ssh', 'ssh']


def test_resume_makes_what_is_missing(tpu):
  done, calls = tpu('resume', answers={'describe': [1]})
  assert done.returncode == 0
  assert verbs(calls) == ['describe', 'create', 'ssh', 'ssh']


def test_resume_goes_on_after_a_preemption(tpu):
  answers = {'describe': ['READY', 'READY', 'READY'], 'ssh': [42, 42, 0]}
  done, calls = tpu('resume', answers=answers)
  assert done.returncode == 0
  assert verbs(calls).count('ssh') == 3
  # The VM was taken while it ran: any exit code will do.
  answers = {'describe': ['READY', 'PREEMPTED', 'PREEMPTED'], 'ssh': [255, 0]}
  done, calls = tpu('resume', answers=answers)
  assert done.returncode == 0
  assert 'delete' in verbs(calls)


def test_resume_does_not_repeat_an_error(tpu):
  done, calls = tpu('resume', answers={'describe': ['READY'], 'ssh': [3]})
  assert done.returncode == 3
  assert verbs(calls).count('ssh') == 1


@pytest.mark.parametrize(
  'answers',
  [
    {'describe': ['READY'], 'ssh': [42]},
    {'describe': [1], 'create': [1]},
    {'describe': ['CREATING']},
  ],
)
def test_resume_gives_up(tpu, answers):
  done, calls = tpu('resume', answers=answers, RETRIES='2')
  assert done.returncode == 42
  assert done.stderr.splitlines()[-1].startswith('error: not done after 2')
  assert verbs(calls).count('describe') >= 3
  # What could not be made has nothing installed on it.
  assert 'create' not in answers or 'ssh' not in verbs(calls)


@pytest.mark.parametrize(
  ('arguments', 'environment'),
  [
    ((), {}),
    (('start',), {}),
    (('run', '--dryrun'), {}),
    (('run', 'delete'), {}),
    (('create',), {'REPOSITORY': ''}),
  ],
)
def test_mistakes_are_one_line(tpu, arguments, environment):
  done, calls = tpu(*arguments, **environment)
  assert done.returncode == 2
  assert done.stderr.startswith('error: ')
  assert done.stderr.count('\n') == 1
  assert not calls


def test_help_tells_every_setting(tpu):
  done, _ = tpu('--help', TPU_NAME='cub')
  assert done.returncode == 0
  assert 'TPU_NAME=cub' in done.stdout
