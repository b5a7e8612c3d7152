#!/bin/sh
# Figure 8 at 124M: initialisations from 0, 1 and 2 blocks, three seeds.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom plan --model gpt2-124m --steps 20000 --batch-tokens 524288 --peak-lr 0.0707 --u-mix 0.12 --out grow.json
# The figure finds its records by the name of the runs' folder, whatever the data are.
latebloom ablate grow.json --data data/owt --dtype bfloat16 --compile --repeat-data --small 0,1,2 --init random,copy,copy_zero_last --order stack --seeds 3 --out runs/shakespeare --parquet records
latebloom figures --only fig08 --data records
