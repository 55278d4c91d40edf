#!/usr/bin/env bash
# Runs tiger_jax on a Cloud TPU slice, on every host of it at once.
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

# Hides the user, password and query of an address, which a log might keep.
masked() {
  sed -E -e 's,://.*@,://HIDDEN@,' -e 's,\?[^#]*,?HIDDEN,' <<<"$1"
}

usage() {
  cat <<END
usage: launch/tpu.sh create|run|resume|delete [--dry-run]

  create   makes the TPU VM and installs the project on its hosts
  run      runs it on all hosts; what is done already is kept
  resume   makes the VM again if it is gone, and runs, until the run is done
  delete   deletes the VM

  --dry-run prints the commands and runs none; resume's are those for a VM that
  was taken away.

From the environment, with what they are now:
  TPU_NAME=$TPU_NAME
  ZONE=$ZONE
  PROJECT=$PROJECT (empty: gcloud's own)
  ACCELERATOR=$ACCELERATOR
  RUNTIME_VERSION=$RUNTIME_VERSION (that of the accelerator's generation)
  SPOT=$SPOT (1: cheaper, and may be taken away; or 0)
  REPOSITORY=$(masked "$REPOSITORY") (what to git clone, with a #branch if you like; create
    and resume need it)
  SETUP=$SETUP (a shell command for every host before it runs, again and again,
    as: mountpoint -q /mnt/runs || sudo mount ...)
  CONFIG=$CONFIG
  WORKDIR=$WORKDIR (several hosts need one that they share, and resume one that
    outlives them: a file server or bucket that SETUP mounts)
  FLAGS=$FLAGS (further flags of tiger_jax.main, separated by blanks; quotes
    work as in a shell, nothing is expanded or run)
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

# A host that is taken away says no goodbye: without ServerAlive, ssh would wait
# for it for ever.
on_all_hosts() {
  tpu ssh --worker=all --ssh-flag=-oServerAliveInterval=30 --command="$1"
}

make_vm() {
  local spot=()
  [[ $SPOT == 1 ]] && spot=(--spot)
  tpu create --accelerator-type="$ACCELERATOR" --version="$RUNTIME_VERSION" \
    ${spot[@]+"${spot[@]}"}
}

# Does nothing where it is done. The hosts' own Python may be too old; uv brings
# another. Newer systems guard theirs from pip, hence PIP_BREAK_SYSTEM_PACKAGES.
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
    || return # In resume, `set -e` does not hold.
  [[ -z $SETUP ]] || on_all_hosts "$SETUP"
}

create() {
  make_vm && install
}

run() {
  local flags flag more=()
  if [[ -n $FLAGS ]]; then
    while IFS= read -r -d '' flag; do
      more+=("$flag")
    done < <(xargs printf '%s\0' <<<"$FLAGS")
  fi
  printf -v flags '%q ' --config="$CONFIG" --workdir="$WORKDIR" --distributed \
    ${more[@]+"${more[@]}"}
  # A shell that stayed would end before main has saved, and with its own code.
  on_all_hosts \
    "cd tiger_jax && exec .venv/bin/python -m tiger_jax.main $flags"
}

# Prints the state of the VM, MISSING where there is none.
state() {
  local answer
  if answer=$(tpu describe --format='value(state)' 2>&1); then
    grep -xE '[A-Z_]+' <<<"$answer" # gcloud may have warned of something, too.
  elif [[ $answer == *NOT_FOUND* ]]; then
    echo MISSING
  else
    echo "$answer" >&2
    return 1
  fi
}

# One try of resume.
attempt() {
  local seen
  seen=$(state) || return
  case $seen in
    READY) ;;
    MISSING) make_vm || return ;;
    PREEMPTED | TERMINATED | STOPPED)
      delete || return
      make_vm || return
      ;;
    *)
      echo "$TPU_NAME is $seen" >&2
      return 255
      ;;
  esac
  install && run
}

# Whether another try may end better than one that ended with this code.
is_passing() {
  case $1 in
    # main: a process was lost, which may end JAX by 134; asked to stop.
    6 | 134 | 42) ;;
    143 | 255) ;; # SIGTERM before main listens; ssh: a host is not reached.
    *) [[ $(state) != READY ]] ;;
  esac
}

resume() {
  if [[ $dry_run == 1 ]]; then
    tpu describe --format='value(state)'
    delete
    create
    run
    return
  fi
  trap 'exit 130' INT # Ctrl-C ends not only this try.
  local tries code
  for ((tries = 0; tries <= RETRIES; tries++)); do
    [[ $tries == 0 ]] || sleep "$WAIT"
    code=0
    attempt || code=$?
    [[ $code == 0 ]] && return
    is_passing "$code" || return "$code"
    echo "try $((tries + 1)) ended with $code" >&2
  done
  echo "error: not done after $RETRIES more tries; raise RETRIES" >&2
  return "$code"
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

# A dry run clones nothing.
[[ $dry_run == 0 ]] || REPOSITORY=$(masked "$REPOSITORY")

[[ -n $command ]] || die 'choose create, run, resume or delete; see --help'
[[ $SPOT == [01] ]] || die "SPOT is $SPOT: set it to 1 or 0"
[[ $RETRIES =~ ^[0-9]+$ ]] || die "RETRIES is $RETRIES: set it to a number"
[[ $ACCELERATOR =~ -([1-9][0-9]*)$ ]] \
  || die "ACCELERATOR is $ACCELERATOR: set it to one like v5litepod-8"
size=${BASH_REMATCH[1]}
[[ -z $FLAGS ]] || xargs true <<<"$FLAGS" 2>/dev/null \
  || die "FLAGS is $FLAGS: close its quotes"
if [[ $command == create || $command == resume ]]; then
  [[ -n $REPOSITORY ]] || die 'REPOSITORY is not set: name what to git clone'
fi
# Up to 8, of any generation, are the chips or cores of one host.
if [[ $command == resume || $command == run && $size -gt 8 ]]; then
  [[ $WORKDIR == /* ]] || die "WORKDIR is $WORKDIR, on a host's own disk: name\
 a folder that all hosts share and that outlives them, from / on"
fi
"$command"
