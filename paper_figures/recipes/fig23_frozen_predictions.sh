#!/bin/sh
# Figure 23 at 124M: pilots, a plan that predicts, its run.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom pilots --model gpt2-124m --steps 20000 --batch-tokens 524288 --peak-lr 0.0707 --out pilots
latebloom plan --model gpt2-124m --steps 20000 --batch-tokens 524288 --peak-lr 0.0707 --u-mix 0.12 --out planned.json
latebloom train planned.json --data data/owt --out records/planned --dtype bfloat16 --compile --repeat-data
latebloom figures records/planned
