#!/bin/sh
# Table 6 at 124M: growth from 1 block at two steps, with every control, one seed.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: steps, tokens a step, data, seeds.
set -e
# Data: any text of tens of billions of tokens, chosen by us.
latebloom data prepare books/ --tokenizer gpt2 --bpe-dir bpe --out data/owt
# Figure 4's recipe trains these runs, too: after it the last line is all that is left to do.
# The figure finds its records by their names, those of the demo's runs whatever the steps are.
latebloom plan --model gpt2-124m --steps 20000 --batch-tokens 524288 --peak-lr 0.0707 --budget 0.7 --out middle.json
latebloom plan --model gpt2-124m --steps 20000 --batch-tokens 524288 --peak-lr 0.0707 --budget 0.5 --out late.json
latebloom controls middle.json --out middle
latebloom controls late.json --out late
latebloom train middle/fixed.json --out records/demo_scale/s0_full-800 --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom train middle/small.json --out records/demo_scale/s0_small-800 --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom train middle/progressive.json --out records/demo_scale/s0_grown-360 --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom train middle/equal_compute.json --out records/demo_scale/s0_full-650 --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom train middle/small_equal_compute.json --out records/demo_scale/s0_small-1115 --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom train middle/depth_equal_compute-2.json --out records/demo_scale/s0_two-900 --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom train late/progressive.json --out records/demo_scale/s0_grown-600 --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom train late/equal_compute.json --out records/demo_scale/s0_full-550 --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom train late/small_equal_compute.json --out records/demo_scale/s0_small-942 --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom train late/depth_equal_compute-2.json --out records/demo_scale/s0_two-760 --data data/owt --dtype bfloat16 --compile --repeat-data
latebloom figures --only tab06 --data records
