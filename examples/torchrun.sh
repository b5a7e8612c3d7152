#!/bin/sh
# All GPUs of one machine: sh examples/torchrun.sh 7b.json data runs/7b examples/train-7b-8.toml
set -eu
plan=$1 data=$2 out=$3 config=$4
exec torchrun --standalone --nproc-per-node "${GPUS:-gpu}" --max-restarts "${RESTARTS:-3}" -m latebloom train "$plan" \
  --data "$data" --out "$out" --config "$config"
