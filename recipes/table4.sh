#!/usr/bin/env bash
# Table 4: copy detection on the strong subset of Copydays
#
# Expected    mAP in % of the strong attacks, among 10,000 distractors (paper, Table 4)
#             dino_vitb16  at 224 pixels  81.7
#             dino_vitb8   at 320 pixels  85.5   (official README: 85.8)
# Tolerance   0.5: which images of YFCC100M were the distractors, and which the whitening was learned on, was never
#             published (facebookresearch/dino, issue 106), and the authors' own two numbers differ by 0.3
# Source      paper, section 4.2.1; official eval_copy_detection.py
# Data        copydays yfcc
# Hardware    one GPU, or a CPU
# Time        2 minutes for dino_vitb16, 17 for dino_vitb8 on one GPU, by Table 1's images/s of a V100 (estimates)
# Notes       DATA/yfcc/distractors and DATA/yfcc/whitening are 10,000 and 20,000 images, drawn by
#             'dinotools data prepare yfcc'.
# shellcheck source=recipes/recipe.sh
source "$(dirname "$0")/recipe.sh"
need copydays yfcc
in_smoke dino_vitb16

small=()
if [ -n "$SMOKE" ]; then
  small=(--imsize 64 --workers 0)
fi

# detect NETWORK SIZE
detect() {
  wanted "$1" || return 0
  measure "$recipe/$1" copydays --ckpt "$(released "$1")" --imsize "$2" --data "$data/copydays" \
    --distractors "$data/yfcc/distractors" --whiten "$data/yfcc/whitening" --cache "$out/features" \
    --paper-row "table4/$1" "${small[@]}"
}

detect dino_vitb16 224
detect dino_vitb8 320
report
