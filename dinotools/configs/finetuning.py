"""Options of fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dinotools.configs.option import Opt
from dinotools.configs.shared import BackboneOptions, ComparisonOptions, LabelledDataOptions, Precision, RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(BackboneOptions, LabelledDataOptions, RuntimeOptions, ComparisonOptions):
    """Train a whole network further, with labels (paper: Table 6).

    The defaults are DeiT's recipe for ImageNet, which the paper uses; --preset has one for each of its seven data sets.
    For example: dinotools finetune --ckpt dino_vits16 --preset cifar10 --download --out runs/cifar10
    """

    out: Annotated[Path, Opt("run directory: checkpoint.pth, log.jsonl, config.toml, results.json", "Output")]
    overwrite: Annotated[bool, Opt("replace a non-empty --out", "Output")] = False
    resume: Annotated[bool, Opt("go on from the checkpoint in --out, if there is one", "Output")] = False

    epochs: Annotated[int, Opt("passes over as many images as there are", "Optimisation")] = 300
    batch_size: Annotated[int, Opt("images per step", "Optimisation")] = 1024
    accumulate: Annotated[
        int, Opt("parts in which the images of a step pass the network, where memory is short", "Optimisation")
    ] = 1
    optimizer: Annotated[Literal["adamw", "sgd"], Opt("adamw, or sgd with Nesterov momentum 0.9", "Optimisation")] = (
        "adamw"
    )
    lr: Annotated[
        float, Opt("peak learning rate for 512 images per step, scaled linearly with --batch-size", "Optimisation")
    ] = 5e-4
    warmup_epochs: Annotated[int, Opt("epochs of linear learning-rate warm-up", "Optimisation")] = 5
    warmup_lr: Annotated[float, Opt("learning rate at the start of the warm-up", "Optimisation")] = 1e-6
    min_lr: Annotated[float, Opt("learning rate at the end of the cosine", "Optimisation")] = 1e-5
    weight_decay: Annotated[
        float, Opt("of weights; biases, norms, [CLS] and positions never decay", "Optimisation")
    ] = 0.05
    layer_decay: Annotated[
        float, Opt("factor on the learning rate from a block to the one below it; 1 for all alike", "Optimisation")
    ] = 1.0
    ema_decay: Annotated[
        float, Opt("measure and save the moving average of the weights, such as 0.99996; 0 for none", "Optimisation")
    ] = 0.0

    drop_path_rate: Annotated[float, Opt("stochastic depth of a ViT's last block", "Network")] = 0.1
    head_init_scale: Annotated[
        float, Opt("factor on the classifier's initial weights: small, to disturb the network little", "Network")
    ] = 0.001

    crop_scale: Annotated[tuple[float, float], Opt("area of a training crop, as a share of the image", "Recipe")] = (
        0.08,
        1.0,
    )
    randaugment_ops: Annotated[int, Opt("operations of RandAugment per image; 0 for none", "Recipe")] = 2
    randaugment_magnitude: Annotated[int, Opt("their strength, from 0 to 10", "Recipe")] = 9
    erasing: Annotated[float, Opt("probability that a rectangle of an image becomes noise", "Recipe")] = 0.25
    mixup: Annotated[float, Opt("mixup's alpha; half of the batches, if there is cutmix too; 0 for none", "Recipe")] = (
        0.8
    )
    cutmix: Annotated[float, Opt("cutmix's alpha; 0 for none", "Recipe")] = 1.0
    label_smoothing: Annotated[float, Opt("share of a label that is spread over all classes", "Recipe")] = 0.1
    repeats: Annotated[int, Opt("views of an image in a batch (repeated augmentation); 1 for none", "Recipe")] = 3

    eval_every: Annotated[
        int, Opt("epochs between measurements on the test images, each with a checkpoint", "Monitor")
    ] = 1

    precision: Annotated[
        Precision, Opt("compute type; auto is bf16 on CUDA devices that have it, else fp32", "Runtime")
    ] = "auto"
