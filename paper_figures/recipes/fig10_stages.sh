#!/bin/sh
# Figure 10 at 124M: one expansion beside the fixed depths; stages by hand from its plan.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom plan --model gpt2-124m --steps 100000 --batch-tokens 524288 --u-mix 0.12 --out one.json
latebloom train one.json --data data/owt --out records/one --dtype bfloat16 --compile --repeat-data
latebloom study paper_figures/recipes/gpt2_124m_depths.toml --out records/studies/gpt2_124m_depths --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom figures records/one records/studies/gpt2_124m_depths
