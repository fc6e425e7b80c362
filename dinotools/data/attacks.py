"""What people do to a picture before they pass it on, as in the blocks of Copydays: crops, JPEG and strong attacks.

A function here takes an RGB image of any size and returns one; all chance comes from the ``RandomState`` it is given,
whose stream NumPy has frozen. A strong attack also takes another photograph, which only ``insertion`` looks at.
Source: Douze et al. 2009 (evaluation of GIST descriptors), where Copydays is introduced: its pictures are cropped,
or scaled to a sixteenth of their pixels and compressed, or attacked by hand (print and scan, paint, blur, contrast).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.random import RandomState
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

Attack = Callable[[Image.Image, RandomState, Image.Image], Image.Image]

WORDS = ("SALE", "COPY", "breaking news", "FOR PREVIEW ONLY", "happy birthday!", "2 for 1", "www.example.com", "WOW")
SCAN_SIDE = 1000  # pixels of a scan's longer side, at most
SEPARATOR = "+"  # between the strong attacks that an image underwent one after the other


def crop(image: Image.Image, percent: float, random: RandomState) -> Image.Image:
    """Removes that share of the surface, from 0 to below 100; the shape stays, the place is drawn."""
    kept = 1 - percent / 100
    width = max(1, round(image.width * math.sqrt(kept)))
    height = min(image.height, max(1, round(image.width * image.height * kept / width)))  # makes up for rounding
    left, top = random.randint(image.width - width + 1), random.randint(image.height - height + 1)
    return image.crop((left, top, left + width, top + height))


def sixteenth(image: Image.Image) -> Image.Image:
    """Scales to a quarter of each side; the JPEG blocks of Copydays are such images, compressed."""
    return _resized(image, image.width / 4, image.height / 4)


def mirror(image: Image.Image, random: RandomState, other: Image.Image) -> Image.Image:
    """Exchanges left and right."""
    return ImageOps.mirror(image)


def insertion(image: Image.Image, random: RandomState, other: Image.Image) -> Image.Image:
    """Pastes the image, at half to three quarters of its size, into another photograph."""
    page = ImageOps.fit(other, image.size)
    share = random.uniform(0.5, 0.75)
    small = _resized(image, image.width * share, image.height * share)
    left, top = random.randint(page.width - small.width + 1), random.randint(page.height - small.height + 1)
    page.paste(small, (left, top))
    return page


def paint(image: Image.Image, random: RandomState, other: Image.Image) -> Image.Image:
    """Covers parts with blots, and scribbles across the whole with broad pens."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    size = np.array(image.size)
    for _ in range(random.randint(1, 4)):
        half = size * random.uniform(0.06, 0.16, 2)
        x, y = size * random.uniform(0.1, 0.9, 2)
        draw.ellipse((x - half[0], y - half[1], x + half[0], y + half[1]), fill=_colour(random))
    for _ in range(random.randint(2, 5)):
        angles = random.uniform(0, 2 * math.pi) + np.cumsum(random.uniform(-0.9, 0.9, 30))  # a hand that wanders
        points = random.uniform(0, 1, 2) + 0.07 * np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)
        points = (1 - abs(points % 2 - 1)) * size  # reflected at the edges
        pen = max(1, round(min(size) * random.uniform(0.02, 0.06)))
        draw.line([tuple(point) for point in points.tolist()], fill=_colour(random), width=pen, joint="curve")
    return image


def text(image: Image.Image, random: RandomState, other: Image.Image) -> Image.Image:
    """Writes two to four lines of words across, the first as wide as the image or its share of the height allows."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    lines = random.randint(2, 5)
    for line in range(lines):
        words = WORDS[random.randint(len(WORDS))]
        width = image.width * (0.9 if line == 0 else random.uniform(0.4, 0.8))
        height = image.height / lines
        size = max(4, min(100 * width / ImageFont.load_default(100).getlength(words), 0.8 * height))
        font = ImageFont.load_default(size)
        x = random.uniform(0, 1) * (image.width - font.getlength(words))
        y = line * height + random.uniform(0, 1) * (height - 1.2 * size)
        ink, rim = ((255, 255, 255), (0, 0, 0)) if random.rand() < 0.5 else (_colour(random), (255, 255, 255))
        draw.text((x, y), words, fill=ink, font=font, stroke_width=max(1, round(size / 16)), stroke_fill=rim)
    return image


def colour(image: Image.Image, random: RandomState, other: Image.Image) -> Image.Image:
    """Turns the hues and changes the saturation, or leaves no colour at all; then a cast and another contrast."""
    if random.rand() < 0.3:
        image = image.convert("L").convert("RGB")
    else:
        hue, saturation, value = image.convert("HSV").split()
        turn, factor = random.randint(20, 236), random.uniform(0.4, 2.0)
        hue = hue.point([(level + turn) % 256 for level in range(256)])
        saturation = saturation.point([min(255, round(level * factor)) for level in range(256)])
        image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    return _toned(image, random.uniform(0.6, 1.7), 0, random.uniform(170, 255, 3))


def blur(image: Image.Image, random: RandomState, other: Image.Image) -> Image.Image:
    """Blurs as a lens that is far out of focus."""
    radius = random.uniform(0.01, 0.02) * math.sqrt(image.width * image.height)
    return image.filter(ImageFilter.GaussianBlur(max(radius, 0.8)))


def print_and_scan(image: Image.Image, random: RandomState, other: Image.Image) -> Image.Image:
    """A faded print on tinted paper, scanned askew, coarsely, with uneven light and grain."""
    scale = min(1, SCAN_SIDE / max(image.size)) * random.uniform(0.5, 1)
    image = _resized(image, image.width * scale, image.height * scale)
    paper = random.uniform(205, 250, 3)
    image = _toned(image, random.uniform(0.7, 1.4), random.uniform(15, 60, 3), paper)
    margin_x, margin_y = max(2, image.width // 14), max(2, image.height // 14)
    page = Image.new(
        "RGB", (image.width + 2 * margin_x, image.height + 2 * margin_y), tuple(paper.astype(int).tolist())
    )
    page.paste(image, (margin_x, margin_y))
    x1, y1, x2, y2, x3, y3, x4, y4 = random.uniform(0, 1.4, 8) * ([margin_x, margin_y] * 4)
    right, bottom = page.size
    corners = (x1, y1, x2, bottom - y2, right - x3, bottom - y3, right - x4, y4)  # from the upper left, downwards
    page = page.transform(page.size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)
    light = np.linspace(1, random.uniform(0.7, 0.95), page.width)[:: random.choice((-1, 1)), None]
    grain = random.normal(0, random.uniform(5, 14), (page.height, page.width, 1))
    return Image.fromarray((np.asarray(page) * light + grain).round().clip(0, 255).astype(np.uint8))


# in this order several of them are applied: the picture is put somewhere, worked on, and then passed on
STRONG: dict[str, Attack] = {
    "mirror": mirror,
    "insertion": insertion,
    "paint": paint,
    "text": text,
    "colour": colour,
    "blur": blur,
    "print-and-scan": print_and_scan,
}
KINDS = (*STRONG, "mixture")


def draw_strong(kind: str, random: RandomState) -> str:
    """What ``attack`` shall do: the kind itself; two or three others joined by +, drawn, for ``mixture``."""
    if kind in STRONG:
        return kind
    chosen = random.permutation(len(STRONG))[: random.randint(2, 4)]
    return SEPARATOR.join(name for i, name in enumerate(STRONG) if i in chosen)


def attack(image: Image.Image, name: str, random: RandomState, other: Image.Image) -> Image.Image:
    """Applies one strong attack, or several joined by +, to an RGB image of any size.

    Args:
        image: the original; stays as it is.
        name: keys of ``STRONG``, such as ``text+blur``.
        random: where the strength and place of everything come from.
        other: another photograph.
    """
    for part in name.split(SEPARATOR):
        image = STRONG[part](image, random, other)
    return image


def _resized(image: Image.Image, width: float, height: float) -> Image.Image:
    return image.resize((max(1, round(width)), max(1, round(height))), Image.Resampling.LANCZOS)


def _toned(image: Image.Image, gamma: float, black: np.ndarray | float, white: np.ndarray) -> Image.Image:
    """Maps the values of each channel from 0..255 to its black..white, bent by gamma."""
    ramp = (np.arange(256) / 255) ** gamma
    tables = black + np.outer(ramp, white - black)  # (256, 3)
    return image.point(tables.T.round().astype(int).ravel().tolist())


def _colour(random: RandomState) -> tuple[int, ...]:
    return tuple(random.randint(0, 256, 3).tolist())
