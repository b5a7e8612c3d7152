#!/bin/sh
# Figure 3 at 124M: starts, initialisations and orders side by side.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom plan --model gpt2-124m --steps 100000 --batch-tokens 524288 --u-mix 0.12 --small-depth 1 --out grow.json
latebloom ablate grow.json --data data/owt --dtype bfloat16 --compile --repeat-data --out runs/shakespeare --seeds 3 --parquet records
