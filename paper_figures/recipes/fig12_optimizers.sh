#!/bin/sh
# Figure 12 at 124M: AdamW, Muon with AdamW, SGD and Muon-NSGD.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: learning rates of each optimizer, steps, tokens a step, data.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom study paper_figures/recipes/gpt2_124m_adamw.toml --out records/studies/gpt2_124m_adamw --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom study paper_figures/recipes/gpt2_124m_muon_adamw.toml --out records/studies/gpt2_124m_muon_adamw --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom study paper_figures/recipes/gpt2_124m_sgd.toml --out records/studies/gpt2_124m_sgd --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom study paper_figures/recipes/gpt2_124m.toml --out records/studies/gpt2_124m --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom figures --only fig19 --only fig21 --data records
