#!/bin/sh
# Figure 9 at 124M: orders of blocks from 2 blocks, three seeds.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom plan --model gpt2-124m --steps 20000 --batch-tokens 524288 --peak-lr 0.0707 --u-mix 0.12 --out grow.json
# The figure finds its records by the name of the runs' folder, whatever the data are.
latebloom ablate grow.json --data data/owt --dtype bfloat16 --compile --repeat-data --small 2 --init copy,copy_zero_last --order stack,inter,last --seeds 3 --out runs/shakespeare --parquet records
latebloom figures --only fig09 --data records
