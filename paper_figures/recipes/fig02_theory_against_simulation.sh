#!/bin/sh
# Figure 2 has no larger scale: the whole programme on deep linear networks, some hours on two cores.
# Shapes, schedule and update rule as in arXiv 2511.04981. *Chosen by us*, since it does not say: nothing.
set -e
latebloom validate --out records/validation
