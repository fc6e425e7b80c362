#!/usr/bin/env bash
# Table 5: objects of DAVIS-2017 followed through videos with frozen features
#
# Expected    J&F, J and F in % on the 30 videos of val at 480p (paper, Table 5)
#             dino_vits16  61.8 60.2 63.4
#             dino_vitb16  62.3 60.7 63.9
#             dino_vits8   69.9 66.6 73.1
#             dino_vitb8   71.4 67.9 74.9
# Tolerance   0.2: nothing is random, but nearest neighbours turn on the last digits of features, in which devices
#             differ; the authors warn that another PyTorch than 1.7.1 gives other numbers (official README)
# Source      paper, section 4.2.2; official eval_video_segmentation.py
# Data        davis2017
# Hardware    one GPU, or a CPU with patience
# Time        minutes on a GPU for patches of 16, an hour for patches of 8 (estimates)
# shellcheck source=recipes/recipe.sh
source "$(dirname "$0")/recipe.sh"
need davis2017
in_smoke dino_vits16

small=()
if [ -n "$SMOKE" ]; then
  small=(--short-side 64 --multiple 8 --workers 0)
fi
for network in dino_vits16 dino_vitb16 dino_vits8 dino_vitb8; do
  wanted "$network" || continue
  again "$recipe/$network" davis --ckpt "$(released "$network")" --data "$data/davis2017" \
    --paper-row "table5/$network" "${small[@]}"
done
report
