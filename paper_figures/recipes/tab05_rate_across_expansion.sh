#!/bin/sh
# Table 5 for a plan: the factors of every kind of parameter.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: nothing.
set -e
latebloom transfer --base-width 3072 --base-depth 1 --width 3072 --depth 60
latebloom figures --only tab05
