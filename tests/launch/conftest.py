"""A fake gcloud for the tests of the Cloud TPU script."""

import os
from pathlib import Path
import shlex
import subprocess

import pytest

SCRIPT = Path(__file__).parents[2] / 'launch' / 'tpu.sh'
REPOSITORY = 'https://example.com/tiger jax.git'

# The fake gcloud records its calls. Each kind of call has a list of answers.
# The n-th call gets the n-th answer, or the last one if the list is shorter.
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
    answers = {f'answers_{k}': text for k, text in (answers or {}).items()}
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
    calls = (tmp_path / 'calls').read_text().splitlines()
    kinds = (tmp_path / 'kinds').read_text().split()
    return done, kinds, [shlex.split(call) for call in calls]

  return run
