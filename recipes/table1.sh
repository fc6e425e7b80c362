#!/usr/bin/env bash
# Table 1: the networks, their size and how many images a second they take in
#
# Expected    parameters without a head, in millions; width; tokens at 224 pixels; images/s (paper, Table 1)
#             dino_resnet50  23  2048    -  1237
#             dino_vits16    21   384  197  1007
#             dino_vits8     21   384  785   180
#             dino_vitb16    85   768  197   312
#             dino_vitb8     85   768  785    63
# Tolerance   parameters 1 million, for the paper cuts decimals off; width and tokens exact. Images/s: 10 % on a V100,
#             the authors' device; on another, compare the networks with one another.
# Data        none
# Hardware    one GPU, best a V100; or a CPU, whose images/s say nothing of the paper's
# Time        2 minutes (10 seconds of measuring for each network, and the downloads of the weights)
# Notes       128 images a pass, as in the paper, in float32; the paper does not name its precision.
# shellcheck source=recipes/recipe.sh
source "$(dirname "$0")/recipe.sh"
in_smoke dino_vits16

for network in dino_resnet50 dino_vits16 dino_vits8 dino_vitb16 dino_vitb8; do
  wanted "$network" || continue
  measure "$recipe/$network" models throughput --ckpt "$(released "$network")" --paper-row "table1/$network" \
    "${smoke_throughput[@]}"
done
report
