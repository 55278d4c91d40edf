#!/usr/bin/env bash
# Runs tiger_jax on all hosts of a Cloud TPU slice.
set -euo pipefail

TPU_NAME=${TPU_NAME:-tiger}
ZONE=${ZONE:-us-west4-a}
PROJECT=${PROJECT:-}
ACCELERATOR=${ACCELERATOR:-v5litepod-8}
RUNTIME_VERSION=${RUNTIME_VERSION:-v2-alpha-tpuv5-lite}
SPOT=${SPOT:-1}
REPOSITORY=${REPOSITORY:-}
SETUP=${SETUP:-}
CONFIG=${CONFIG:-configs/beauty.py}
WORKDIR=${WORKDIR:-runs/tpu}
FLAGS=${FLAGS:-}
RETRIES=${RETRIES:-20}
WAIT=${WAIT:-30}

# Hides the user, password and query of a URL, because logs may be kept.
masked() {
  sed -E -e 's,://.*@,://HIDDEN@,' -e 's,\?[^#]*,?HIDDEN,' <<<"$1"
}

usage() {
  cat <<END
usage: launch/tpu.sh create|run|resume|delete [--dry-run]

  create   requests a TPU VM, waits for it and installs the project on its hosts
  run      runs the project on all hosts; finished stages are kept
  resume   runs until the run is finished, and requests a VM if there is none
  delete   deletes the VM or the request

  --dry-run prints the commands without running them. For resume, these are the
  commands for a preempted VM.

Settings from the environment, with their current values:
  TPU_NAME=$TPU_NAME
  ZONE=$ZONE
  PROJECT=$PROJECT (empty: the default project of gcloud)
  ACCELERATOR=$ACCELERATOR
  RUNTIME_VERSION=$RUNTIME_VERSION (must match the accelerator)
  SPOT=$SPOT (1: a cheaper VM that can be preempted; or 0)
  REPOSITORY=$(masked "$REPOSITORY") (URL to git clone, optionally with #branch;
    create and resume require it)
  SETUP=$SETUP (a shell command for every host, run by create and before every
    attempt of resume, for example: mountpoint -q /mnt/runs || sudo mount ...)
  CONFIG=$CONFIG
  WORKDIR=$WORKDIR (several hosts need a shared folder, and resume needs one
    that outlives the VM: a file server or bucket that SETUP mounts)
  FLAGS=$FLAGS (additional flags of tiger_jax.main, separated by spaces; quotes
    work as in a shell, but nothing is expanded or run)
  RETRIES=$RETRIES (maximum number of restarts by resume)
  WAIT=$WAIT (seconds before each restart, and between checks of the queue)
END
}

die() {
  echo "error: $1" >&2
  exit 2
}

# Runs a command, or in a dry run prints it with shell quoting.
run_or_print() {
  if [[ $dry_run == 1 ]]; then
    local line
    printf -v line '%q ' "$@"
    echo "${line% }"
  else
    "$@"
  fi
}

tpu() {
  local call=(gcloud compute tpus "$1" "$2" "$TPU_NAME" --zone="$ZONE")
  shift 2
  [[ -z $PROJECT ]] || call+=(--project="$PROJECT")
  run_or_print "${call[@]}" "$@"
}

# A preempted host does not close its connection. Without ServerAliveInterval,
# ssh would wait for it forever. `queued-resources ssh` would succeed without
# running the command if the VM is gone.
on_all_hosts() {
  tpu tpu-vm ssh --worker=all --ssh-flag=-oServerAliveInterval=30 --command="$1"
}

request() {
  local spot=()
  [[ $SPOT == 1 ]] && spot=(--spot)
  tpu queued-resources create --node-id="$TPU_NAME" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME_VERSION" \
    ${spot[@]+"${spot[@]}"}
}

# Installs the project on hosts that do not have it. uv provides Python, because
# the Python of the host may be too old. PIP_BREAK_SYSTEM_PACKAGES lets pip
# install uv on systems that protect their Python.
install() {
  local branch=() clone
  [[ $REPOSITORY == *'#'* ]] && branch=(--branch "${REPOSITORY##*#}")
  printf -v clone '%q ' git clone --quiet ${branch[@]+"${branch[@]}"} -- \
    "${REPOSITORY%%#*}" tiger_jax
  on_all_hosts "test -e tiger_jax/.venv/installed || {\
 { test -d tiger_jax || $clone; } && cd tiger_jax\
 && PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv\
 && python3 -m uv venv --quiet --clear --seed --python=3.12 .venv\
 && .venv/bin/pip install --quiet -e '.[tpu,text]' && touch .venv/installed; }" \
    || return # `set -e` has no effect in resume.
  [[ -z $SETUP ]] || on_all_hosts "$SETUP"
}

create() {
  acquire && install
}

run() {
  local flags
  printf -v flags '%q ' --config="$CONFIG" --workdir="$WORKDIR" --distributed
  # shellcheck disable=SC2016 # The inner shell expands $@.
  [[ -z $FLAGS ]] || flags+=$(xargs bash -c 'printf "%q " "$@"' _ <<<"$FLAGS")
  # Without exec, a signal would end the shell before main has saved, and the
  # exit code would be that of the shell.
  on_all_hosts \
    "cd tiger_jax && exec .venv/bin/python -m tiger_jax.main $flags"
}

# Prints the state of the VM, or of the request if there is no VM, or MISSING.
# The reason follows the state FAILED.
state() {
  local kind answer format='value[separator=" "]'
  format+='(firstof(state.state,state),state.failedData.error.message)'
  for kind in tpu-vm queued-resources; do
    if answer=$(tpu "$kind" describe --format="$format" 2>&1); then
      grep -E '^[A-Z_]{5,}( |$)' <<<"$answer" # gcloud may also print warnings.
      return
    elif [[ $answer != *NOT_FOUND* ]]; then
      echo "$answer" >&2
      return 1
    fi
  done
  echo MISSING
}

# Waits until the VM is ready. Requests a VM if there is none or it is lost.
acquire() {
  if [[ $dry_run == 1 ]]; then
    [[ $command == create ]] || delete
    request
    return
  fi
  local now requested=0
  while now=$(state) || return; [[ $now != READY* ]]; do
    echo "$TPU_NAME is ${now% }" >&2
    case $now in
      MISSING | FAILED* | SUSPENDED* | PREEMPTED* | TERMINATED* | STOPPED*)
        [[ $requested == 0 ]] || return 255 # RETRIES limits the requests.
        [[ $now == MISSING ]] || delete || return
        request || return
        requested=1
        ;;
      *) sleep "$WAIT" ;;
    esac
  done
}

# Succeeds if a run that ended with this exit code may succeed when restarted.
is_transient() {
  case $1 in
    6 | 134) ;; # A process was lost; JAX may abort with 134.
    42) ;;      # main was stopped by a signal, and has saved.
    143) ;;     # SIGTERM arrived before main handled it.
    255) ;;     # ssh did not reach a host.
    *) [[ $(state) != READY* ]] ;;
  esac
}

resume() {
  trap 'exit 130' INT # Ctrl-C ends all attempts, not only this one.
  local restarts code
  for ((restarts = 0; restarts <= RETRIES; restarts++)); do
    [[ $restarts == 0 ]] || sleep "$WAIT"
    code=0
    { acquire && install && run; } || code=$?
    [[ $code == 0 ]] && return
    is_transient "$code" || return "$code"
    echo "attempt $((restarts + 1)) ended with exit code $code" >&2
  done
  echo "error: not finished after $RETRIES restarts; raise RETRIES" >&2
  return "$code"
}

delete() {
  tpu queued-resources delete --force --quiet
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
    *) die "unknown argument $argument: see launch/tpu.sh --help" ;;
  esac
done

# A dry run does not need the secret parts of the URL.
[[ $dry_run == 0 ]] || REPOSITORY=$(masked "$REPOSITORY")

[[ -n $command ]] || die 'choose create, run, resume or delete; see --help'
[[ $SPOT == [01] ]] || die "SPOT is $SPOT: set it to 1 or 0"
[[ $RETRIES =~ ^[0-9]+$ ]] || die "RETRIES is $RETRIES: set it to a number"
[[ $ACCELERATOR =~ -([1-9][0-9]*)$ ]] \
  || die "ACCELERATOR is $ACCELERATOR: set it to a name like v5litepod-8"
size=${BASH_REMATCH[1]}
[[ -z $FLAGS ]] || xargs true <<<"$FLAGS" 2>/dev/null \
  || die "FLAGS is $FLAGS: close its quotes"
if [[ $command == create || $command == resume ]]; then
  [[ -n $REPOSITORY ]] || die 'REPOSITORY is not set: set it to a URL to clone'
fi
# Accelerators with a size up to 8 have one host.
if [[ $command == resume || $command == run && $size -gt 8 ]]; then
  [[ $WORKDIR == /* ]] || die "WORKDIR is $WORKDIR, on a host's own disk: set\
 it to an absolute path that all hosts share and that outlives them"
fi
"$command"
