#!/usr/bin/env bash
# Figures 1 and 3: where the [CLS] token of ViT-S/8 looks, head by head
#
# Expected    pictures: the heads of the last block mark the objects, each another part, though no label was seen
# Tolerance   none: there is no number
# Source      paper, Figures 1 and 3; official visualize_attention.py
# Data        none; optionally DATA/pictures, a folder of your own images and videos
# Hardware    a CPU, or one GPU
# Time        a minute (estimate)
# Notes       The rows are three photographs that come with dinotools' libraries, and your own. dino_vits8_300ep
#             is the network of the authors' own pictures, dino_vits8 the better one of Table 2.
# shellcheck source=recipes/recipe.sh
source "$(dirname "$0")/recipe.sh"
in_smoke dino_vits8

small=()
if [ -n "$SMOKE" ]; then
  small=(--imsize 64)
fi
for network in dino_vits8 dino_vits8_300ep; do
  wanted "$network" || continue
  maps=(--ckpt "$(released "$network")" --fit crop "${small[@]}")
  measure "$recipe/$network/photos" attention photos "${maps[@]}"
  if [ -d "$data/pictures" ]; then
    measure "$recipe/$network/pictures" attention "$data/pictures" "${maps[@]}"
  fi
done
report
