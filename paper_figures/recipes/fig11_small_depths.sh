#!/bin/sh
# Figure 11 at 124M: the front of loss and compute from every small depth.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom study paper_figures/recipes/gpt2_124m_depths.toml --out records/studies/depths_124m --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom figures --only fig11 --data records
