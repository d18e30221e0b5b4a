#!/bin/bash
# Two hosts of eight GPUs, one process a GPU; `sbatch experiments/launch/slurm.sh`, again to go on.
# Slurm tells jax who the processes are and where the first one is.
#SBATCH --job-name=mammadai
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue

set -euo pipefail
out=${OUT:-$SCRATCH/runs/mammadai}  # a directory that all hosts see
resume=
if [ -e "$out/run.json" ]; then resume=--resume; fi
srun --kill-on-bad-exit=1 mammadai teach --preset full --shards 16 --out "$out" $resume "$@"
