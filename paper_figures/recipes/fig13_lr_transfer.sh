#!/bin/sh
# Figure 13: sweep at 4 blocks of width 256, predict the learning rate of 124M and of 7B.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom plan --model gpt2-124m --depth 4 --steps 5000 --batch-tokens 524288 --u-mix 0.12 --out small.json
latebloom lr-transfer small.json --data data/owt --dtype bfloat16 --compile --repeat-data --out runs/lr124m --lrs 0.02,0.04,0.08,0.16,0.32 --width 768 --depth 12 --steps 100000
latebloom lr-transfer small.json --data data/owt --dtype bfloat16 --compile --repeat-data --out runs/lr7b --lrs 0.02,0.04,0.08,0.16,0.32 --width 3072 --depth 60 --steps 100000
