"""Options of pre-training, named as in the official implementation, with its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dinotools.configs.option import Opt
from dinotools.configs.shared import Precision, RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RuntimeOptions):
    """Pre-train a network without labels, with DINO.

    The defaults are the paper's. For small images on a small machine: dinotools pretrain --preset small-images
    """

    data: Annotated[str, Opt("folder of images (labels are not used), or a data set's name (cifar10, digits)", "Data")]
    out: Annotated[Path, Opt("run directory: checkpoints, log.jsonl, config.toml, results.json", "Output")]

    download: Annotated[bool, Opt("fetch a torchvision data set that is not there yet", "Data")] = False
    max_bad: Annotated[float, Opt("share of unreadable images to skip before giving up", "Data")] = 0.01

    overwrite: Annotated[bool, Opt("replace a non-empty --out", "Output")] = False
    resume: Annotated[bool, Opt("go on from the last checkpoint in --out, if there is one", "Output")] = False
    init_from: Annotated[
        str | None, Opt("start from the weights of a training checkpoint, and nothing else of it", "Output")
    ] = None
    save_every: Annotated[int, Opt("epochs between rewrites of checkpoint.pth", "Output")] = 1
    save_minutes: Annotated[float, Opt("minutes after which checkpoint.pth is rewritten within an epoch", "Output")] = (
        15.0
    )
    keep_every: Annotated[int, Opt("epochs between checkpoints that are kept; 0 keeps only the last", "Output")] = 20

    arch: Annotated[
        str,
        Opt(
            "vit_micro, _tiny, _small, _base, _large, a torchvision network, or timm:NAME",
            "Network",
        ),
    ] = "vit_small"
    patch_size: Annotated[int, Opt("side of a ViT's patch in pixels", "Network")] = 16
    drop_path_rate: Annotated[float, Opt("stochastic depth of the student", "Network")] = 0.1
    out_dim: Annotated[int, Opt("prototypes K: outputs of the head", "Head")] = 65536
    norm_last_layer: Annotated[
        bool, Opt("keep every prototype at norm 1; off is a little better with ViT-S", "Head")
    ] = True
    use_bn_in_head: Annotated[bool, Opt("batch norm in the head", "Head")] = False
    head_layers: Annotated[int, Opt("linear layers before the prototypes", "Head")] = 3
    head_hidden_dim: Annotated[int, Opt("width of the head's hidden layers", "Head")] = 2048
    head_bottleneck_dim: Annotated[int, Opt("width of the head's normalised bottleneck", "Head")] = 256

    momentum_teacher: Annotated[
        float, Opt("EMA momentum of the teacher, rising to 1 on a cosine; 0.9995 for batch 256", "Teacher")
    ] = 0.996
    warmup_teacher_temp: Annotated[
        float, Opt("teacher temperature at the start; lower it if the loss does not fall", "Teacher")
    ] = 0.04
    teacher_temp: Annotated[float, Opt("teacher temperature after the warm-up", "Teacher")] = 0.04
    warmup_teacher_temp_epochs: Annotated[int, Opt("epochs of teacher temperature warm-up", "Teacher")] = 0
    student_temp: Annotated[float, Opt("student temperature", "Teacher")] = 0.1
    center_momentum: Annotated[float, Opt("share of the old centre that a step keeps", "Teacher")] = 0.9

    epochs: Annotated[int, Opt("passes over the images", "Optimisation")] = 100
    batch_size: Annotated[int, Opt("images per step", "Optimisation")] = 64
    optimizer: Annotated[
        Literal["adamw", "sgd", "lars"], Opt("adamw for ViTs, sgd or lars for convnets", "Optimisation")
    ] = "adamw"
    lr: Annotated[
        float, Opt("peak learning rate for 256 images per step, scaled linearly with --batch-size", "Optimisation")
    ] = 0.0005
    min_lr: Annotated[float, Opt("learning rate at the end of the cosine", "Optimisation")] = 1e-6
    warmup_epochs: Annotated[int, Opt("epochs of linear learning-rate warm-up", "Optimisation")] = 10
    weight_decay: Annotated[float, Opt("weight decay at the start", "Optimisation")] = 0.04
    weight_decay_end: Annotated[float, Opt("weight decay at the end of its cosine", "Optimisation")] = 0.4
    clip_grad: Annotated[float, Opt("largest gradient norm of each parameter; 0 does not clip", "Optimisation")] = 3.0
    freeze_last_layer: Annotated[int, Opt("epochs during which the prototypes stay fixed", "Optimisation")] = 1

    global_crop_size: Annotated[int, Opt("side of the two global crops in pixels", "Crops")] = 224
    global_crops_scale: Annotated[
        tuple[float, float], Opt("area of a global crop, as a share of the image", "Crops")
    ] = (0.4, 1.0)
    local_crops_number: Annotated[
        int, Opt("local crops per image; with 0, --global-crops-scale 0.14,1 is advised", "Crops")
    ] = 8
    local_crop_size: Annotated[int, Opt("side of a local crop in pixels", "Crops")] = 96
    local_crops_scale: Annotated[tuple[float, float], Opt("area of a local crop, as a share of the image", "Crops")] = (
        0.05,
        0.4,
    )
    blur_radius: Annotated[tuple[float, float], Opt("range of the Gaussian blur's radius in pixels", "Crops")] = (
        0.1,
        2.0,
    )

    knn_every: Annotated[int, Opt("epochs between k-NN measurements of teacher and student; 0 for none", "Monitor")] = 0
    knn_data: Annotated[
        str | None, Opt("labelled data for them (default: --data): train/ and val/ or test/", "Monitor")
    ] = None
    knn_k: Annotated[int, Opt("neighbours of that k-NN", "Monitor")] = 20
    knn_resize_size: Annotated[
        int | None, Opt("shorter side before the centre crop of --global-crop-size; default: 256/224 of it", "Monitor")
    ] = None

    precision: Annotated[
        Precision, Opt("compute type; auto is bf16 on CUDA devices that have it, else fp32", "Runtime")
    ] = "auto"
