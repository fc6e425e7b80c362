"""A miniature of DAVIS-2017: two short sequences of discs that move over a photograph, with exact masks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.random import RandomState
from PIL import Image, ImageDraw

from dinotools.data.masks import write_mask
from dinotools.data.miniatures.cuttings import photographs, save

SEQUENCES = {"one-disc": 1, "two-discs": 2}  # name -> objects
FRAMES = 8
HEIGHT, WIDTH = 96, 160
RADII = (20, 26)  # of a disc, in pixels, at least and below
PATH = 24  # pixels that a disc moves in all
PAN = 8  # pixels that the background moves in all


def write(folder: Path, random: RandomState) -> None:
    """Writes ImageSets/2017/val.txt, and the frames and annotations of its sequences at 480p."""
    lists = folder / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("".join(f"{name}\n" for name in SEQUENCES), encoding="utf-8")
    for name, objects in SEQUENCES.items():
        for number, (frame, mask) in enumerate(draw_sequence(objects, random)):
            save(frame, folder / "JPEGImages" / "480p" / name / f"{number:05d}.jpg")
            write_mask(folder / "Annotations" / "480p" / name / f"{number:05d}.png", mask)


def draw_sequence(objects: int, random: RandomState) -> list[tuple[Image.Image, np.ndarray]]:
    """Frames, and their masks (H, W) uint8, of discs side by side, each with a path of its own."""
    first, *others = random.permutation(len(photographs())).tolist()
    background = photographs()[first].resize((WIDTH + PAN, HEIGHT), Image.Resampling.BICUBIC)
    discs = [_disc(photographs()[others[number]], random) for number in range(objects)]
    # every disc has a column of its own, so that it is whole in every frame
    column = WIDTH / objects
    starts = [((number + 0.5) * column, HEIGHT / 2) for number in range(objects)]
    angles = random.uniform(0, 2 * math.pi, objects).tolist()
    sequence = []
    for number in range(FRAMES):
        share = number / (FRAMES - 1)
        left = round(PAN * share)
        frame = background.crop((left, 0, left + WIDTH, HEIGHT))
        mask = Image.new("L", frame.size)
        for value, (disc, (x, y), angle) in enumerate(zip(discs, starts, angles, strict=True), start=1):
            along = PATH * (share - 0.5)
            texture, shape = disc
            corner = (
                round(x + along * math.cos(angle) - shape.width / 2),
                round(y + along * math.sin(angle) - shape.height / 2),
            )
            frame.paste(texture, corner, shape)
            mask.paste(value, corner, shape)
        sequence.append((frame, np.asarray(mask).copy()))
    return sequence


def _disc(photo: Image.Image, random: RandomState) -> tuple[Image.Image, Image.Image]:
    """A round piece of the middle of a photograph: its square, and its shape in it (mode 1)."""
    side = 2 * random.randint(*RADII)
    shape = Image.new("1", (side, side))
    ImageDraw.Draw(shape).ellipse((0, 0, side - 1, side - 1), fill=1)
    middle = (photo.width / 4, photo.height / 4, photo.width * 3 / 4, photo.height * 3 / 4)
    return photo.resize((side, side), Image.Resampling.BICUBIC, box=middle), shape
