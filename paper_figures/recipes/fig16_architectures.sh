#!/bin/sh
# Figure 16 at a billion parameters: LLAMA3-like blocks, grown from 1 to 16.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom plan --model llama3-1b --vocab-size 50304 --steps 50000 --batch-tokens 524288 --u-mix 0.12 --out llama.json
latebloom train llama.json --data data/owt --out records/llama --dtype bfloat16 --compile --repeat-data
latebloom plan --model gpt2-1.5b --steps 100000 --batch-tokens 524288 --u-mix 0.12 --out gpt2.json
latebloom train gpt2.json --data data/owt --out records/gpt2 --dtype bfloat16 --compile --repeat-data
latebloom figures records/llama records/gpt2
