#!/bin/sh
# Table 6 at 124M: growth from 1 block with every control of equal compute.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom study paper_figures/recipes/gpt2_124m.toml --out records/studies/gpt2_124m --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom figures --only fig21 --data records
