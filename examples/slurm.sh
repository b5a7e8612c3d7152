#!/bin/bash
# One task a GPU: sbatch examples/slurm.sh 7b.json data runs/7b examples/train-7b-64.toml
# The run's directory and the data must be on a file system that all nodes see.
#SBATCH --job-name=latebloom
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@300  # to every task, five minutes before the time is up: all stop after the same step
set -u
export plan=$1 data=$2 out=$3 config=$4
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

srun --kill-on-bad-exit=1 bash -c '
  export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
  if [ -d "$out/checkpoints" ]; then
    exec latebloom resume "$out" --data "$data"
  fi
  exec latebloom train "$plan" --data "$data" --out "$out" --config "$config"
'
code=$?
case $code in
  75|137|143) scontrol requeue "$SLURM_JOB_ID" ;;  # a rank was lost, or time is up: go on from the newest checkpoint
esac
exit $code
