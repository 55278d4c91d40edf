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
# (a folder that all hosts share), PYTHON, and FLAGS, further flags of main as a
# shell would read them.
set -euo pipefail

CONFIG=${CONFIG:-configs/beauty.py}
WORKDIR=${WORKDIR:-runs/slurm}
PYTHON=${PYTHON:-.venv/bin/python}
flags=()
eval "flags+=(${FLAGS:-})"

# What main ends with when it was asked to stop, and saved.
PREEMPTED=42

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
if [[ $code == "$PREEMPTED" ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
