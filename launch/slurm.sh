#!/usr/bin/env bash
#SBATCH --job-name=tiger
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
# JAX gives each process of a Slurm job one of the GPUs that are visible on its
# host.
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# The tasks get SIGTERM 180 seconds before the time limit, so that they save.
# With the prefix B:, only this script would get the signal. If the script
# forwarded the signal to srun, srun would kill the tasks.
#SBATCH --signal=TERM@180
#
# Runs tiger_jax on GPU hosts: sbatch [options] launch/slurm.sh
# Command-line options of sbatch override those above. Environment variables:
#   CONFIG   the config file
#   WORKDIR  a folder that all hosts share
#   PYTHON   the Python interpreter
#   RETRIES  maximum number of restarts after a lost process
#   FLAGS    additional flags of tiger_jax.main, separated by spaces; quotes
#            work as in a shell, but nothing is expanded or run
set -euo pipefail

CONFIG=${CONFIG:-configs/beauty.py}
WORKDIR=${WORKDIR:-runs/slurm}
PYTHON=${PYTHON:-.venv/bin/python}
FLAGS=${FLAGS:-}
RETRIES=${RETRIES:-20}
flags=()
if [[ -n $FLAGS ]]; then
  xargs true <<<"$FLAGS" 2>/dev/null || {
    echo "error: FLAGS is $FLAGS: close its quotes" >&2
    exit 2
  }
  while IFS= read -r -d '' flag; do
    flags+=("$flag")
  done < <(xargs printf '%s\0' <<<"$FLAGS")
fi

tasks=${SLURM_NTASKS_PER_NODE:-1} gpus=${SLURM_GPUS_ON_NODE:-0}
if [[ $tasks != "$gpus" ]]; then
  echo "error: $tasks tasks on a node with $gpus GPUs: set" \
    '--ntasks-per-node and --gpus-per-node of sbatch to the same number' >&2
  exit 2
fi

# srun does not inherit --cpus-per-task. With --wait, the other tasks have 60
# seconds to end after the first task has ended, even if the default of the site
# is to kill them at once.
code=0
srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
  --kill-on-bad-exit=0 --wait=60 \
  "$PYTHON" -m tiger_jax.main --config="$CONFIG" --workdir="$WORKDIR" \
  --distributed ${flags[@]+"${flags[@]}"} || code=$?

# scancel also ends this script, so a canceled job is not requeued.
case $code in
  # main was stopped by a signal, and has saved.
  42) scontrol requeue "$SLURM_JOB_ID" ;;
  # A process was lost (JAX may then abort with 134), or SIGTERM arrived before
  # main handled it. If a process was killed, srun returns its 137 instead of the
  # 6 of the other processes. The fault may recur, so restarts are bounded.
  6 | 134 | 137 | 143)
    if [[ ${SLURM_RESTART_COUNT:-0} -lt $RETRIES ]]; then
      scontrol requeue "$SLURM_JOB_ID"
    else
      echo "error: ended with $code after $RETRIES restarts; raise RETRIES" >&2
    fi
    ;;
esac
exit "$code"
