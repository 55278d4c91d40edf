"""A fake gcloud for the tests of the Cloud TPU script."""

import os
from pathlib import Path
import shlex
import subprocess

import pytest

SCRIPT = Path(__file__).parents[2] / 'launch' / 'tpu.sh'
REPOSITORY = 'https://example.com/tiger jax.git'

# The flags of the commands that the script may use: those that a command
# requires, and all others. From the reference of gcloud 578.0.0:
# https://docs.cloud.google.com/sdk/gcloud/reference/compute/tpus/GROUP/COMMAND
# `tpu-vm create` is not listed, because it fails if there is no capacity.
_COMMON = '--format --project --quiet'
_NODE = (
  '--async --boot-disk --data-disk --description --internal-ips --labels'
  ' --metadata --metadata-from-file --network --range --reserved --scopes'
  ' --service-account --shielded-secure-boot --spot --subnetwork --tags'
)
SYNTAX = {
  'tpu-vm describe': ('--zone', ''),
  'tpu-vm ssh': (
    '--zone --command',
    '--dry-run --force-key-file-overwrite --internal-ip --output-directory'
    ' --plain --ssh-flag --ssh-key-expiration --ssh-key-expire-after'
    ' --ssh-key-file --strict-host-key-checking --worker',
  ),
  'queued-resources create': (
    '--zone --node-id --accelerator-type --runtime-version',
    f'{_NODE} --guaranteed --reservation-host-folder'
    ' --reservation-host-organization --reservation-host-project'
    ' --valid-after-duration --valid-after-time --valid-until-duration'
    ' --valid-until-time',
  ),
  'queued-resources describe': ('--zone', ''),
  'queued-resources delete': ('--zone', '--async --force'),
}
# The flags without a value.
_SWITCHES = '--async --force --internal-ips --quiet --spot'.split()


def check_syntax(call):
  """Raises an error if gcloud would not accept the call."""
  program, compute, tpus, group, verb, name, *flags = call
  assert (program, compute, tpus) == ('gcloud', 'compute', 'tpus')
  assert not name.startswith('-')
  assert f'{group} {verb}' in SYNTAX, f'gcloud has no {group} {verb}'
  required, others = SYNTAX[f'{group} {verb}']
  names = [flag.partition('=')[0] for flag in flags]
  unknown = {*names} - {*f'{required} {others} {_COMMON}'.split()}
  assert not unknown, f'{group} {verb} has no {unknown}'
  missing = {*required.split()} - {*names}
  assert not missing, f'{group} {verb} requires {missing}'
  for flag, flag_name in zip(flags, names, strict=True):
    assert ('=' in flag) == (flag_name not in _SWITCHES), flag


# The fake gcloud records its calls. Each kind of call has a list of answers.
# The n-th call gets the n-th answer, or the last one if the list is shorter.
GCLOUD = r"""#!/usr/bin/env bash
kind=$4
case "$*" in
  *'queued-resources describe'*) kind=queue ;;
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
  FAILED) echo 'FAILED There is no quota: 0' ;;
  *) echo "WARNING: there are updates" >&2; echo "$answer " ;;
esac
"""


def write_script(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)


@pytest.fixture(name='start_tpu')
def _start_tpu(tmp_path):
  write_script(tmp_path / 'bin' / 'gcloud', GCLOUD)

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
    # At first, there is no VM and no request.
    answers = {'describe': 'NOT_FOUND READY', 'queue': 'NOT_FOUND'} | (
      answers or {}
    )
    answers = {f'answers_{k}': text for k, text in answers.items()}
    return subprocess.Popen(
      ['bash', SCRIPT, *arguments],
      env=os.environ | settings | answers | environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )

  return start


@pytest.fixture(name='tpu')
def _tpu(tmp_path, start_tpu):
  def run(*arguments, **settings):
    with start_tpu(*arguments, **settings) as process:
      out, error = process.communicate(timeout=60)
    done = subprocess.CompletedProcess(
      arguments, process.returncode, out, error
    )
    if not (tmp_path / 'kinds').exists():
      return done, [], []
    lines = (tmp_path / 'calls').read_text().splitlines()
    kinds = (tmp_path / 'kinds').read_text().split()
    calls = [shlex.split(line) for line in lines]
    for call in calls:
      check_syntax(['gcloud', *call])
    return done, kinds, calls

  return run
