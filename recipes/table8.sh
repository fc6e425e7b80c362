#!/usr/bin/env bash
# Table 8: accuracy, time and memory of multi-crop, ViT-S/16
#
# Expected    ImageNet linear top-1 in %, hours on 16 GPUs, memory of a GPU (paper, Table 8)
#             2x224-100   67.8  15.3 h   9.3 GB     2x224-300   72.5  45.9 h   9.3 GB
#             2x96-100    71.5  17.0 h  10.5 GB     2x96-300    74.5  51.0 h  10.5 GB
#             6x96-100    73.8  20.3 h  12.9 GB     6x96-300    75.9  60.9 h  12.9 GB
#             10x96-100   74.6  24.2 h  15.4 GB     10x96-300   76.1  72.6 h  15.4 GB
# Tolerance   1.0 for accuracy: single runs with one seed each, on both sides. Others who ran the official code for 100
#             epochs report k-NN 68.4 to 68.5 where its README has 69.3 (facebookresearch/dino, issue 280). Time and
#             memory: 10 % on the paper's machines; the kind of GPU is not stated.
# Data        imagenet
# Hardware    2 machines with 8 GPUs each, 64 images a GPU
# Time        307 hours on the 16 GPUs for all rows (the paper's, added up); linear: 35 hours each on one GPU
#             (estimate: Table 2's 1,007 images/s, 100 epochs)
# Notes       2x224 needs other settings than the official defaults: k-NN 58.3 and linear 64.2 with them, 59.9 and 67.8
#             with clip_grad 0, min_lr 1e-5, crops from 0.14 (facebookresearch/dino, issue 122); no-multicrop has
#             these. The other rows' settings are not stated beyond the crops. A resumed run tells the time of all its
#             parts.
# shellcheck source=recipes/recipe.sh
source "$(dirname "$0")/recipe.sh"
need imagenet
in_smoke 2x224-100 10x96-100

measures=(linear)
ablation 2x224-100 --preset no-multicrop --epochs 100
ablation 2x224-300 --preset no-multicrop
for crops in 2 6 10; do
  ablation "${crops}x96-100" --preset boosted-300 --local-crops-number "$crops" --epochs 100
  ablation "${crops}x96-300" --preset boosted-300 --local-crops-number "$crops"
done
report
