"""Options of pre-training, named as in the official implementation, with its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dinotools.configs.crops import CropOptions
from dinotools.configs.distillation import DistillationOptions
from dinotools.configs.launching import LaunchOptions
from dinotools.configs.option import Opt
from dinotools.configs.shared import ComparisonOptions, Precision, RuntimeOptions
from dinotools.configs.training_data import TrainingDataOptions


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(
    TrainingDataOptions, DistillationOptions, CropOptions, LaunchOptions, RuntimeOptions, ComparisonOptions
):
    """Pre-train a network without labels, with DINO.

    The defaults are the paper's. For small images on a small machine: dinotools pretrain --preset small-images
    """

    out: Annotated[Path, Opt("run directory: checkpoints, log.jsonl, config.toml, results.json", "Output")]
    overwrite: Annotated[bool, Opt("replace a non-empty --out", "Output")] = False
    resume: Annotated[bool, Opt("go on from the last checkpoint in --out, if there is one", "Output")] = False
    override: Annotated[bool, Opt("with --resume: accept options that differ from the checkpoint's", "Output")] = False
    init_from: Annotated[
        str | None, Opt("start from the weights of a training checkpoint, and nothing else of it", "Output")
    ] = None
    save_every: Annotated[int, Opt("epochs between rewrites of checkpoint.pth", "Output")] = 1
    save_minutes: Annotated[float, Opt("minutes after which checkpoint.pth is rewritten within an epoch", "Output")] = (
        15.0
    )
    keep_every: Annotated[int, Opt("epochs between checkpoints that are kept; 0 keeps only the last", "Output")] = 20
    track: Annotated[
        tuple[Literal["tensorboard", "wandb"], ...],
        Opt("where the log goes besides log.jsonl: tensorboard, wandb", "Output"),
    ] = ()
    dry_run: Annotated[
        bool, Opt("print the resolved run, its parameters, memory and duration after 5 steps, and stop", "Output")
    ] = False

    arch: Annotated[
        str,
        Opt(
            "vit_micro, _tiny, _small, _base, _large, a torchvision network, or timm:NAME",
            "Network",
        ),
    ] = "vit_small"
    patch_size: Annotated[int, Opt("side of a ViT's patch in pixels", "Network")] = 16
    num_heads: Annotated[int | None, Opt("attention heads of a ViT, in place of its own number", "Network")] = None
    drop_path_rate: Annotated[float, Opt("stochastic depth of the student", "Network")] = 0.1

    epochs: Annotated[int, Opt("passes over the images", "Optimisation")] = 100
    batch_size: Annotated[int, Opt("images per step, over all processes", "Optimisation")] = 64
    accumulate: Annotated[
        int,
        Opt(
            "parts that a step's images go through the network in, one after the other, to save memory", "Optimisation"
        ),
    ] = 1
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
    force: Annotated[bool, Opt("accept values that are known to be unsafe", "Optimisation")] = False

    knn_every: Annotated[int, Opt("epochs between k-NN measurements of teacher and student; 0 for none", "Monitor")] = 0
    knn_data: Annotated[
        str | None, Opt("labelled data for them (default: --data): train/ and val/ or test/", "Monitor")
    ] = None
    knn_k: Annotated[int, Opt("neighbours of that k-NN", "Monitor")] = 20
    knn_resize_size: Annotated[
        int | None,
        Opt("shorter side before the centre crop of the global crops' size; default: 256/224 of it", "Monitor"),
    ] = None
    on_collapse: Annotated[
        Literal["warn", "stop"], Opt("what to do when the teacher's output collapses", "Monitor")
    ] = "warn"

    precision: Annotated[
        Precision, Opt("compute type; auto is bf16 on accelerators that have it, else fp32", "Runtime")
    ] = "auto"
    compile: Annotated[bool, Opt("compile the networks with torch.compile", "Runtime")] = False
    checkpoint_activations: Annotated[
        bool, Opt("compute a ViT's activations again in the backward pass, to save memory", "Runtime")
    ] = False
