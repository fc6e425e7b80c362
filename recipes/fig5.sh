#!/usr/bin/env bash
# Figure 5: patch sizes, k-NN accuracy against throughput
#
# Expected    images/s (paper, Table 2 and section 5.1) and ImageNet k-NN top-1 in % of the released networks (Table 2)
#             vits5     44    drawn only     vitb8     63  77.4
#             vits8    180    78.3           vitb16   312  76.1
#             vits16  1007    74.5
# Tolerance   k-NN: 0.1 for the released networks (Table 2: nothing is random). Images/s: 10 % on an NVIDIA V100, which
#             is the paper's; elsewhere their ratios should hold.
# Data        imagenet
# Hardware    one GPU for the released networks; for vits5 not stated
# Time        k-NN: minutes (vits16) to 6 hours (vitb8) on one GPU (estimates, by those images/s). vits5: not
#             published; 69 days on 16 GPUs (estimate: 23 times Table 8's 72.6 hours of ViT-S/16, by those images/s)
# Notes       The figure prints no accuracies, and all of its networks were trained for 300 epochs; of the released
#             ones ViT-B/8 alone was, so the points lie elsewhere. vits5 takes the options of vits8, since the paper
#             gives none. Crops of 224 pixels hold 44 whole patches of 5; the rest of 4 pixels is dropped.
# shellcheck source=recipes/recipe.sh
source "$(dirname "$0")/recipe.sh"
need imagenet
in_smoke vits16 vits5

measures=(knn throughput)
for size in vits8 vits16 vitb8 vitb16; do
  wanted "$size" || continue
  network=dino_$size
  if [ -n "$SMOKE" ]; then network=dino_micro_cifar10; fi
  evaluate "$size" "$network"
done
ablation vits5 --preset vits8 --patch-size 5 --epochs 300
report
