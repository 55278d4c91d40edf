#!/usr/bin/env bash
# Runs tiger_jax on a Cloud TPU slice, on every host of it at once.
set -euo pipefail

TPU_NAME=${TPU_NAME:-tiger}
ZONE=${ZONE:-us-west4-a}
PROJECT=${PROJECT:-}
ACCELERATOR=${ACCELERATOR:-v5litepod-8}
RUNTIME_VERSION=${RUNTIME_VERSION:-v2-alpha-tpuv5-lite}
SPOT=${SPOT:-1}
CONFIG=${CONFIG:-configs/beauty.py}
WORKDIR=${WORKDIR:-runs/tpu}
REPOSITORY=${REPOSITORY:-}
FLAGS=${FLAGS:-}
RETRIES=${RETRIES:-20}
WAIT=${WAIT:-30}

# What main ends with when it was asked to stop, and saved.
PREEMPTED=42

usage() {
  cat <<END
usage: launch/tpu.sh create|run|resume|delete [--dry-run]

  create   makes the TPU VM and installs the project on its hosts
  run      runs it on all hosts; what is done already is kept
  resume   makes the VM again if it is gone, and runs, until the run is done
  delete   deletes the VM

  --dry-run prints the commands and runs none.

From the environment, with what they are now:
  TPU_NAME=$TPU_NAME
  ZONE=$ZONE
  PROJECT=$PROJECT (empty: gcloud's own)
  ACCELERATOR=$ACCELERATOR
  RUNTIME_VERSION=$RUNTIME_VERSION
  SPOT=$SPOT (1: cheaper, and may be taken away)
  CONFIG=$CONFIG
  WORKDIR=$WORKDIR (with several hosts, a folder that all share: a file server,
    or a mounted bucket)
  REPOSITORY=$REPOSITORY (what create clones; with a #branch if you like)
  FLAGS=$FLAGS (further flags of tiger_jax.main)
  RETRIES=$RETRIES (how often resume starts again)
  WAIT=$WAIT (seconds before it does)
END
}

die() {
  echo "error: $1" >&2
  exit 2
}

# Runs a command, or prints it as one could type it.
go() {
  if [[ $dry_run == 1 ]]; then
    local line
    printf -v line '%q ' "$@"
    echo "${line% }"
  else
    "$@"
  fi
}

tpu() {
  local verb=$1
  shift
  local where=(--zone="$ZONE")
  [[ -n $PROJECT ]] && where+=(--project="$PROJECT")
  go gcloud compute tpus tpu-vm "$verb" "$TPU_NAME" "${where[@]}" "$@"
}

on_all_hosts() {
  tpu ssh --worker=all --command="$1"
}

create() {
  [[ -n $REPOSITORY ]] || die 'REPOSITORY is not set: name what to git clone'
  local spot=()
  [[ $SPOT == 1 ]] && spot=(--spot)
  # In resume `set -e` does not hold.
  tpu create --accelerator-type="$ACCELERATOR" --version="$RUNTIME_VERSION" \
    ${spot[@]+"${spot[@]}"} || return
  local branch=()
  [[ $REPOSITORY == *'#'* ]] && branch=(--branch "${REPOSITORY##*#}")
  local clone
  printf -v clone '%q ' git clone ${branch[@]+"${branch[@]}"} -- "${REPOSITORY%%#*}" \
    tiger_jax
  on_all_hosts "{ test -d tiger_jax || $clone; }\
 && cd tiger_jax && python3 -m venv .venv\
 && .venv/bin/pip install --quiet -e '.[tpu]'"
}

run() {
  local flags
  printf -v flags '%q ' --config="$CONFIG" --workdir="$WORKDIR" --distributed
  on_all_hosts "cd tiger_jax && .venv/bin/python -m tiger_jax.main $flags$FLAGS"
}

state() {
  tpu describe --format='value(state)' 2>/dev/null || echo MISSING
}

# Whether the VM is there and works; makes it anew if it was taken away.
ensure() {
  case $(state) in
    READY) ;;
    MISSING) create ;;
    PREEMPTED | TERMINATED | STOPPED)
      delete || return
      create
      ;;
    *) return 1 ;;
  esac
}

resume() {
  if [[ $dry_run == 1 ]]; then
    state # If it is gone, delete and create follow.
    run
    return
  fi
  local tries code
  for ((tries = 0; tries <= RETRIES; tries++)); do
    [[ $tries == 0 ]] || sleep "$WAIT"
    # Not ready yet, or not to be had: another try.
    ensure || continue
    code=0
    run || code=$?
    [[ $code == 0 ]] && return
    # An error of its own it would only make again.
    if [[ $code != "$PREEMPTED" && $(state) == READY ]]; then
      return "$code"
    fi
    echo "ended with $code: trying again" >&2
  done
  echo "error: not done after $RETRIES more tries; raise RETRIES" >&2
  return "$PREEMPTED"
}

delete() {
  tpu delete --quiet
}

dry_run=0
command=
for argument in "$@"; do
  case $argument in
    --dry-run) dry_run=1 ;;
    --help | -h)
      usage
      exit
      ;;
    create | run | resume | delete)
      [[ -z $command ]] || die "$command and $argument: choose one"
      command=$argument
      ;;
    *) die "what is $argument? launch/tpu.sh --help tells" ;;
  esac
done
[[ -n $command ]] || die 'choose create, run, resume or delete; see --help'
"$command"
