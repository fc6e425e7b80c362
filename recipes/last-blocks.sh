#!/usr/bin/env bash
# Appendix: linear classifiers on more than the last block
#
# Expected    ImageNet top-1 in %, linear (paper, appendix F)
#             vits16-1        76.1   [CLS] of the last block of ViT-S/16
#             vits16-2        76.6   of the last two
#             vits16-4        77.0   of the last four
#             vits16-6        77.0   of the last six
#             vitb16-cls      78.0   [CLS] of the last block of ViT-B/16
#             vitb16-cls+avg  78.2   and the mean of its patch tokens
# Tolerance   0.3: other random crops, and a learning rate that the authors chose in an unpublished sweep
# Source      paper, appendix F; official eval_linear.py
# Data        imagenet
# Hardware    one GPU
# Time        35 hours for each row of vits16, 5 days of vitb16, by Table 1's images/s of a V100 (estimates)
# Notes       vits16-4 and vitb16-cls+avg are the same runs as the linear ones of dino_vits16 and dino_vitb16 in table2.
# shellcheck source=recipes/recipe.sh
source "$(dirname "$0")/recipe.sh"
need imagenet
in_smoke vits16-2 vitb16-cls+avg

# probe ROW NETWORK BLOCKS AVERAGE
probe() {
  wanted "$1" || return 0
  train "$recipe/$1" linear --ckpt "$(released "$2")" --data "$data/imagenet" --protocol paper --n-last-blocks "$3" \
    --avgpool-patchtokens "$4" --paper-row "last-blocks/$1" "${smoke_linear[@]}"
}

for blocks in 1 2 4 6; do
  probe "vits16-$blocks" dino_vits16 "$blocks" false
done
probe vitb16-cls dino_vitb16 1 false
probe vitb16-cls+avg dino_vitb16 1 true
report
