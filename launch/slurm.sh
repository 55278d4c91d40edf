#!/usr/bin/env bash
#SBATCH --job-name=tiger
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
# JAX gives every process of a Slurm job one GPU of those its host shows it.
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# To the tasks, some minutes before the time is up, so that they save. Not with
# B:, to this script: srun, were SIGTERM handed on to it, kills its tasks.
#SBATCH --signal=TERM@180
#
# Runs tiger_jax on GPU hosts: sbatch [options] launch/slurm.sh
# Options of sbatch overrule those above. From the environment: CONFIG, WORKDIR
# (a folder that all hosts share), PYTHON, RETRIES (restarts after a lost
# process), and FLAGS, further flags of main, separated by blanks. Quotes work as
# in a shell; nothing is expanded or run.
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
  echo "error: $tasks tasks on a node with $gpus GPUs: give sbatch the same" \
    'number as --ntasks-per-node and --gpus-per-node' >&2
  exit 2
fi

# srun does not know of --cpus-per-task by itself. When a task has ended, well
# or not, the others get a minute; a site may have it that they get none.
code=0
srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
  --kill-on-bad-exit=0 --wait=60 \
  "$PYTHON" -m tiger_jax.main --config="$CONFIG" --workdir="$WORKDIR" \
  --distributed ${flags[@]+"${flags[@]}"} || code=$?

# scancel ends this script too, so that what was cancelled stays so.
case $code in
  # main has saved because it was asked to stop.
  42) scontrol requeue "$SLURM_JOB_ID" ;;
  # A process was lost, which may end JAX by SIGABRT; or SIGTERM came before main
  # handled it. The same fault may occur again, so restarts are bounded.
  6 | 134 | 143)
    if [[ ${SLURM_RESTART_COUNT:-0} -lt $RETRIES ]]; then
      scontrol requeue "$SLURM_JOB_ID"
    else
      echo "error: ended with $code after $RETRIES restarts; raise RETRIES" >&2
    fi
    ;;
esac
exit "$code"
