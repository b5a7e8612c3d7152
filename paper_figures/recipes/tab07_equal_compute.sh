#!/bin/sh
# Table 7 at 124M and 7B: the ways to spend one amount of compute.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom study paper_figures/recipes/gpt2_124m_map.toml --out records/studies/gpt2_124m_map --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom study paper_figures/recipes/gpt2_7b.toml --out records/studies/gpt2_7b --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom figures --only tab07 --data records
