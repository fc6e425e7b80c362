"""The demonstration: the whole way from unlabelled images to a measured, looked-at network, on embedded data.

A second network, which ships with dinotools, shows what hours of the same bring about.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from dinotools.configs import files
from dinotools.configs.demo import DemoConfig
from dinotools.configs.pretraining import PretrainConfig
from dinotools.data import samples
from dinotools.data.sources import open_images
from dinotools.data.transforms import EvalTransform, normalize
from dinotools.features.attention_maps import attention_maps
from dinotools.models.checkpoints import load_backbone
from dinotools.models.vit import VisionTransformer
from dinotools.models.zoo import SHIPPED, ZOO
from dinotools.pretraining import trainer
from dinotools.reporting import figures, html
from dinotools.reporting.training_curves import Panel, draw
from dinotools.runtime import run_directory
from dinotools.runtime.results import Result, versions
from dinotools.runtime.run_log import LOG, read_log

PRESET = "digits"
CURVES, ATTENTION, PHOTOS, PAGE = "curves.png", "attention.png", "photos.png", "index.html"
PICTURED = (0, 61, 120, 247)  # held-out digits in the attention picture: any will do
DIGIT_SIZE = 96  # pixels: enlarged threefold, a digit has 12 x 12 patches instead of 4 x 4
PHOTO_SIZE = 160  # pixels: 20 x 20 patches of the shipped network, which learnt from 4 x 4


def run(config: DemoConfig) -> Result:
    """Pre-trains, measures and draws; leaves everything in ``config.out``.

    Raises:
        DinotoolsError: the output directory is not empty.
    """
    run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite)
    photos = samples.photos()
    draw_attention(SHIPPED, [photos.load(index) for index in range(len(photos))], PHOTO_SIZE, config.out / PHOTOS)
    options = files.load(
        PretrainConfig,
        files.preset_file("pretrain", PRESET),
        out=config.out / "pretrain",
        device=config.device,
        precision=config.precision,
        workers=config.workers,
        seed=config.seed,
    )
    trained = trainer.run(options)
    log = read_log(options.out / LOG)
    rows = compare(log)
    draw_curves(log, config.out / CURVES)
    digits = open_images(options.data, "val")
    draw_attention(str(options.out), [digits.load(index) for index in PICTURED], DIGIT_SIZE, config.out / ATTENTION)
    write_page(rows, options, config.out)
    return Result(
        title=f"demo · {options.arch}/{options.patch_size} on {options.data}",
        rows=rows,
        metrics={"random": rows[0]["k-NN top-1 %"], "trained": rows[1]["k-NN top-1 %"], "pretrain": trained.metrics},
        details=trained.details,
        notes=(f"Open {config.out / PAGE} to see the curves and attention maps.",),
    )


def compare(log: list[dict[str, float]]) -> list[dict[str, float | str]]:
    """The teacher before the first step beside the teacher after the last."""
    measured = [record for record in log if "knn_teacher" in record]
    first, last = measured[0], measured[-1]
    return [
        {"backbone": "random initialisation", "epochs": 0, "k-NN top-1 %": first["knn_teacher"]},
        {"backbone": "teacher, pre-trained", "epochs": last["epoch"], "k-NN top-1 %": last["knn_teacher"]},
    ]


def draw_curves(log: list[dict[str, float]], path: Path) -> None:
    """Loss, and k-NN of teacher and student, over the epochs."""
    knn = {
        name: [(record["epoch"], record[f"knn_{name}"]) for record in log if f"knn_{name}" in record]
        for name in ("teacher", "student")
    }
    loss = {"loss": [(record["epoch"], record["train_loss"]) for record in log if "train_loss" in record]}
    panels = [Panel("training loss", loss), Panel("k-NN top-1 on held-out digits (%)", knn)]
    figures.save(draw(panels, "epoch"), path)


def draw_attention(ckpt: str, images: Sequence[Image.Image], size: int, path: Path) -> None:
    """Attention of a ViT on the centres of images, enlarged or reduced to squares of so many pixels."""
    view = EvalTransform(size, size)
    pixels = torch.stack([view(image) for image in images])
    model = load_backbone(ckpt).model
    assert isinstance(model, VisionTransformer)
    maps = attention_maps(model, normalize(pixels)).numpy()
    figures.save(figures.attention_montage([image.permute(1, 2, 0).numpy() for image in pixels], list(maps)), path)


def write_page(rows: list[dict[str, float | str]], options: PretrainConfig, out: Path) -> None:
    """Writes the page that shows everything."""
    found = versions()
    sections = [
        html.Section(
            "k-NN on digits it has not seen",
            "The features of 1,400 training digits vote for the class of 397 others. Labels are used here for the "
            "first time.",
            rows=rows,
        ),
        html.Section(
            "Training", pictures=[(out / CURVES, "Training loss, and k-NN accuracy of teacher and student, by epoch.")]
        ),
        html.Section(
            "Attention",
            f"Where the [CLS] token of the last block looks, head by head. Digits enlarged to {DIGIT_SIZE} pixels.",
            pictures=[
                (out / ATTENTION, "Held-out digits, the mean attention of the trained teacher, and each head's.")
            ],
        ),
        html.Section(
            "After an hour or two",
            f"{SHIPPED} {ZOO[SHIPPED].note}: the same method, on 32 x 32 photos of animals and vehicles. Here it looks "
            "at larger photos than it has ever seen; nobody told it what is an object, yet its heads part one from the "
            "background.",
            pictures=[(out / PHOTOS, "Three photos, the mean attention of the shipped network, and each head's.")],
            commands=f"dinotools attention photos --ckpt {SHIPPED} --out attention\n"
            f"dinotools knn --ckpt {SHIPPED} --data cifar10 --download --resize-size 32 --crop-size 32",
        ),
        html.Section(
            "Go on",
            "The same on your own images: any folder to pre-train, train/ and val/ with a folder per class to measure.",
            commands="dinotools pretrain --preset small-images --data DIR --out runs/mine\n"
            "dinotools knn --ckpt runs/mine --data DIR --resize-size 32 --crop-size 32",
        ),
    ]
    text = html.page(
        "dinotools demo",
        f"A {options.arch} with patches of {options.patch_size} pixels, pre-trained with DINO for {options.epochs} "
        "epochs on scikit-learn's handwritten digits, without labels.",
        sections,
        f"dinotools {found['dinotools']}, torch {found['torch']}, seed {options.seed}. Options: pretrain/config.toml.",
    )
    run_directory.write_atomically(out / PAGE, lambda temporary: temporary.write_text(text, encoding="utf-8"))
