#!/bin/sh
# Figure 14 at 124M: one run of each schedule; bounds are fitted to their curves.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom plan --model gpt2-124m --steps 100000 --batch-tokens 524288 --u-mix 0.12 --schedule wsd --out wsd.json
latebloom ablate wsd.json --data data/owt --dtype bfloat16 --compile --repeat-data --small 1 --init random --order stack --out runs/wsd --parquet records
latebloom plan --model gpt2-124m --steps 100000 --batch-tokens 524288 --u-mix 0.12 --schedule cosine --out cosine.json
latebloom ablate cosine.json --data data/owt --dtype bfloat16 --compile --repeat-data --small 1 --init random --order stack --out runs/cosine --parquet records
latebloom schedule wsd.json
latebloom schedule cosine.json
