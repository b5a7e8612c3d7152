#!/bin/sh
# Figure 12 at 124M: Muon-NSGD, Muon with AdamW, AdamW and SGD. The peak learning rate of each decides: sweep it first.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: learning rates of each optimizer, steps, tokens a step, data.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
latebloom plan --model gpt2-124m --steps 20000 --batch-tokens 524288 --optimizer muon_nsgd --peak-lr 0.0707 --budget 0.67 --out muon_nsgd.json
latebloom controls muon_nsgd.json --out muon_nsgd
latebloom train-all muon_nsgd/progressive.json muon_nsgd/fixed.json muon_nsgd/equal_compute.json muon_nsgd/small_equal_compute.json --out records/optimizers/muon_nsgd --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom plan --model gpt2-124m --steps 20000 --batch-tokens 524288 --optimizer muon_adamw --peak-lr 0.0707 --budget 0.67 --out muon_adamw.json
latebloom controls muon_adamw.json --out muon_adamw
latebloom train-all muon_adamw/progressive.json muon_adamw/fixed.json muon_adamw/equal_compute.json muon_adamw/small_equal_compute.json --out records/optimizers/muon_adamw --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom plan --model gpt2-124m --steps 20000 --batch-tokens 524288 --optimizer adamw --peak-lr 0.00212 --budget 0.67 --out adamw.json
latebloom controls adamw.json --out adamw
latebloom train-all adamw/progressive.json adamw/fixed.json adamw/equal_compute.json adamw/small_equal_compute.json --out records/optimizers/adamw --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom plan --model gpt2-124m --steps 20000 --batch-tokens 524288 --optimizer sgd --peak-lr 0.3 --budget 0.67 --out sgd.json
latebloom controls sgd.json --out sgd
latebloom train-all sgd/progressive.json sgd/fixed.json sgd/equal_compute.json sgd/small_equal_compute.json --out records/optimizers/sgd --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom figures --only fig12 --data records
