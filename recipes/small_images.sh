#!/usr/bin/env bash
# Small images on a small machine: pre-training without labels and k-NN on two cores, without a GPU
#
# Expected    k-NN top-1 in %, k = 20, teacher after 70 epochs of 10,000 CIFAR-10 images (1,000 a class): 45.05 on 2,000
#             test images; raw pixels have 39.1, the same network at random 27.90 (README.md, all measured)
# Tolerance   1: the standard error of 2,000 test images; one run with one seed
# Source      recipes/presets/pretrain/small-images.toml, whose options are chosen for this and not the paper's
# Data        cifar10; or in place of DATA a folder with train/ and test/ (or val/), a subfolder per class in each, of
#             images of about 32 x 32 pixels
# Hardware    two cores
# Time        69 minutes for those 10,000 images (measured); five times that for all of DATA/cifar10
# Notes       recipes/small_images.sh DATA OUT [options of dinotools pretrain]
# shellcheck source=recipes/recipe.sh
source "$(dirname "$0")/recipe.sh"
shift 2
images=$data
if [ ! -d "$data/train" ]; then
  need cifar10
  images=$data/cifar10
fi

train "$recipe/pretrain" pretrain --preset small-images --data "$images" --knn-every 5 "${smoke_run[@]}" "$@"
measure "$recipe/knn" knn --ckpt "$out/$recipe/pretrain" --data "$images" --resize-size 32 --crop-size 32 --k 10,20
report
