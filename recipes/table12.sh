#!/usr/bin/env bash
# Table 12: 1 % and 10 % of ImageNet's labels, with frozen features of ViT-S/16
#
# Expected    top-1 in % with 1 % and with 10 % of the labels (paper, Table 12)
#             dino_vits16  64.5 72.2
# Tolerance   1.0 (our judgement): the authors used cyanure and do not say how features were scaled or the
#             regularisation chosen
# Source      paper, appendix A
# Data        imagenet
# Hardware    one GPU
# Time        half an hour on one GPU, and the solver's time (estimate by Table 1's images/s of a V100)
# Notes       Mean of three draws of the same share of every class. SimCLR's lists, which others use, are read with
#             'dinotools lowshot --subset 1percent.txt'.
# shellcheck source=recipes/recipe.sh
source "$(dirname "$0")/recipe.sh"
need imagenet
in_smoke dino_vits16

small=(--fraction "0.01,0.1")
if [ -n "$SMOKE" ]; then
  small=(--fraction "0.1,0.3" "${smoke_images[@]}" --workers 0)
fi
if wanted dino_vits16; then
  measure "$recipe/dino_vits16" lowshot --ckpt "$(released dino_vits16)" --data "$data/imagenet" --draws 3 \
    --cache "$out/features" --paper-row table12/dino_vits16 "${small[@]}"
fi
report
