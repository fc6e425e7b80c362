#!/usr/bin/env bash
# Pre-trains on small images without labels and measures the teacher with a k-NN, on two cores and no GPU.
#
#   recipes/small_images.sh DATA OUT [options of dinotools pretrain]
#
# DATA   a folder with train/ and test/ (or val/), a subfolder per class in each, images of about 32 x 32 pixels
# OUT    the run directory; the same line again goes on where it stopped
#
# Expected on 10,000 CIFAR-10 images (1,000 a class) and 2,000 test images: see README.md, "Small images on a small
# machine". Options: recipes/presets/pretrain/small-images.toml.
set -euo pipefail
data=${1:?"usage: $0 DATA OUT [options of dinotools pretrain]"}
out=${2:?"usage: $0 DATA OUT [options of dinotools pretrain]"}
shift 2

dinotools pretrain --preset small-images --data "$data" --out "$out" --knn-every 5 --resume "$@"
dinotools knn --ckpt "$out" --data "$data" --resize-size 32 --crop-size 32 --k 10,20 --out "$out/knn" --overwrite
