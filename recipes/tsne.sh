#!/usr/bin/env bash
# Appendix: t-SNE of ImageNet's classes
#
# Expected    a picture: classes that are alike to us, such as breeds of dogs or kinds of cars, lie close together
# Tolerance   none: there is no number
# Source      paper, appendix: mean features of the classes over the validation images, PCA to 30 dimensions,
#             perplexity 20, learning rate 200, 5,000 iterations
# Data        imagenet
# Hardware    one GPU, or a CPU
# Time        minutes on a GPU (estimate)
# shellcheck source=recipes/recipe.sh
source "$(dirname "$0")/recipe.sh"
need imagenet
in_smoke dino_vits16

small=()
if [ -n "$SMOKE" ]; then
  small=("${smoke_images[@]}" --workers 0)
fi
if wanted dino_vits16; then
  measure "$recipe/dino_vits16" embed --ckpt "$(released dino_vits16)" --data "$data/imagenet" --of classes \
    --split val "${small[@]}"
fi
report
