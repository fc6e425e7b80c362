"""A miniature of PASCAL VOC 2012: photographs with pieces of another one laid over them, and the masks of these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.random import RandomState
from PIL import Image, ImageDraw

from dinotools.data.masks import VOID, write_mask
from dinotools.data.miniatures.cuttings import photographs, save
from dinotools.data.voc import CLASSES, OBJECTS

IMAGES = 4
SIZE = (160, 120)
SHAPES = (40, 64)  # sides of an object, in pixels, at least and below
RIM = 2  # pixels around an object that belong to nobody, as in the real set
LABELS = (8, 15, 15)  # classes of the objects of an image, from the left: two of one class tell both masks apart


def write(folder: Path, random: RandomState) -> None:
    """Writes photographs, both kinds of masks, and the list of them."""
    names = [f"2012_{number:06d}" for number in range(1, IMAGES + 1)]
    for number, name in enumerate(names):
        image, objects = draw_image(2 + number % 2, random)
        save(image, folder / "JPEGImages" / f"{name}.jpg")
        write_mask(folder / OBJECTS / f"{name}.png", objects)
        table = np.arange(256, dtype=np.uint8)
        table[1 : 1 + len(LABELS)] = LABELS
        write_mask(folder / CLASSES / f"{name}.png", table[objects])
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def draw_image(objects: int, random: RandomState) -> tuple[Image.Image, np.ndarray]:
    """An image, and its mask (H, W) uint8 that numbers the objects from the left; their rims are void."""
    first, second, _ = random.permutation(len(photographs())).tolist()
    image = photographs()[first].resize(SIZE, Image.Resampling.BICUBIC)
    texture = photographs()[second].resize(SIZE, Image.Resampling.BICUBIC)
    mask = Image.new("L", SIZE)
    column = SIZE[0] // objects
    for number in range(objects):
        width, height = random.randint(*SHAPES, 2).tolist()
        width = min(width, column)
        x = number * column + random.randint(column - width + 1)
        y = random.randint(SIZE[1] - height + 1)
        box = (x, y, x + width - 1, y + height - 1)
        shape = Image.new("1", SIZE)
        for canvas, fill, rim in ((shape, 1, 1), (mask, number + 1, VOID)):
            draw = ImageDraw.Draw(canvas)
            outline = draw.ellipse if number % 2 == 0 else draw.rectangle
            outline(box, fill=fill, outline=rim, width=RIM)
        image.paste(texture, (0, 0), shape)
    return image, np.asarray(mask).copy()
