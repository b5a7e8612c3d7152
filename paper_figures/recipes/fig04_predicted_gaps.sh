#!/bin/sh
# Figure 4 at 124M: pilots, the plan made from them, and the runs that it was asked for.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom pilots --model gpt2-124m --steps 20000 --batch-tokens 524288 --peak-lr 0.0707 --out pilots
latebloom study paper_figures/recipes/gpt2_124m_steps.toml --out records/studies/gpt2_124m_steps --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom figures --only fig17 --only fig18 --only fig21 --data records
