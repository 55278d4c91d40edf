#!/usr/bin/env bash
#SBATCH --job-name=tiger
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
# JAX gives every process of a Slurm job one GPU.
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
# To this script, some minutes before the time is up.
#SBATCH --signal=B:TERM@180
#
# Runs tiger_jax on GPU hosts: sbatch [options] launch/slurm.sh
# Options of sbatch overrule those above. From the environment: CONFIG, WORKDIR
# (a folder that all hosts share), PYTHON, and FLAGS, further flags of main.
set -uo pipefail

CONFIG=${CONFIG:-configs/beauty.py}
WORKDIR=${WORKDIR:-runs/slurm}
PYTHON=${PYTHON:-.venv/bin/python}
read -r -a flags <<<"${FLAGS:-}"

# What main ends with when it was asked to stop, and saved.
PREEMPTED=42

srun "$PYTHON" -m tiger_jax.main --config="$CONFIG" --workdir="$WORKDIR" \
  --distributed ${flags[@]+"${flags[@]}"} &
step=$!
# srun hands SIGTERM on to its tasks, which save.
trap 'kill -TERM "$step"' TERM

# A signal ends the first wait, not the step.
while wait "$step"; code=$?; kill -0 "$step" 2>/dev/null; do :; done

if [[ $code == "$PREEMPTED" ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
