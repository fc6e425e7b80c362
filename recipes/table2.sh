#!/usr/bin/env bash
# Table 2: ImageNet with frozen features, k-NN and linear, of the released networks and of networks trained here
#
# Expected    top-1 in %, k-NN and linear
#             dino_resnet50  67.5 75.3   (paper, Table 2; these five are the same in the official README)
#             dino_vits16    74.5 77.0
#             dino_vitb16    76.1 78.2
#             dino_vits8     78.3 79.7
#             dino_vitb8     77.4 80.1
#             vanilla        69.3 74.0   (official README: ViT-S/16, 100 epochs)
#             boosted-300    73.3 76.0   (official README: ViT-S/16, 300 epochs)
#             resnet50 67.5 75.3, boosted-800 74.5 77.0, vitb16 76.1 78.2, vits8 78.3 79.7, vitb8 77.4 80.1: the five
#             released networks, trained anew with the preset of that name
# Tolerance   released networks: k-NN 0.1 (nothing is random; decoders of images have changed), linear 0.3 with a new
#             classifier (other random crops; the authors chose the learning rate in a sweep whose values they did not
#             publish), 0.1 with the released one. Trained here: 1.0, for others who ran the official
#             code of vanilla report k-NN 68.4 to 68.5 (facebookresearch/dino, issue 280).
# Source      paper, section 4.1 and appendix F; official eval_knn.py, eval_linear.py and main_dino.py
# Data        imagenet
# Hardware    released networks: one GPU. vanilla: 8 GPUs, boosted-300: 16 (official README). resnet50: 80 GPUs, vitb16:
#             32, vitb8: 176; the presets say where that comes from
# Time        vanilla 1.75 days, boosted-300 2.6 days (official README), boosted-800 8 days on 16 GPUs (estimate from
#             Table 8), the other trainings: not published; the rest on one GPU: k-NN 22 minutes for ViT-S/16 to 6 hours
#             for ViT-B/8, linear 29 hours for ResNet-50, 35 hours for ViT-S/16, 5 days for ViT-B/16, 8 for ViT-S/8, 24
#             for ViT-B/8 (estimates by Table 1's images/s of a V100)
# Notes       What the linear classifier reads, and its learning rate, are the network's defaults: [CLS] of the last
#             four blocks up to ViT-S, of the last one with the mean patch token for ViT-B, both at 0.001; ResNet-50 at
#             0.075. The paper's k-NN is that of k = 20. With GPUS=8, boosted-300 takes twice the README's time.
# shellcheck source=recipes/recipe.sh
source "$(dirname "$0")/recipe.sh"
need imagenet
in_smoke dino_vits16 vanilla

for network in dino_resnet50 dino_vits16 dino_vitb16 dino_vits8 dino_vitb8; do
  wanted "$network" || continue
  classifier=$network
  if [ -n "$SMOKE" ]; then # nobody released one for the small network
    classifier=$out/$recipe/$network/linear/linear.pth
  fi
  frozen=(--ckpt "$(released "$network")" --data "$data/imagenet" --paper-row "table2/$network")
  measure "$recipe/$network/knn" knn "${frozen[@]}" --cache "$out/features" --gpus "$GPUS" "${smoke_images[@]}"
  train "$recipe/$network/linear" linear "${frozen[@]}" --protocol paper "${smoke_linear[@]}"
  measure "$recipe/$network/released" linear "${frozen[@]}" --evaluate "$classifier" "${smoke_images[@]}"
done
measures=(knn linear)
ablation vanilla --preset vanilla
ablation boosted-300 --preset boosted-300
for preset in resnet50 boosted-800 vitb16 vits8 vitb8; do
  ablation "$preset" --preset "$preset"
done
report
