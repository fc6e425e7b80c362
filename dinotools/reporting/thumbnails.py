"""Small photographs inside a page: good enough to judge by, small enough that a thousand of them open from disk."""

from __future__ import annotations

import base64
import io
import re
from pathlib import PurePath

import numpy as np
from PIL import Image

from dinotools.data.images import UnreadableImage, decode
from dinotools.reporting.html import text

LONGER_SIDE = 224  # pixels in the file, half as many again as on the page, for dense screens
WIDTH, HEIGHT = 150, 112  # CSS pixels that a thumbnail fits into
QUALITY = 60  # with these pixels about 7.5 kB a photograph, as base64; blemishes shrink with them on the page

STYLE = """
.tiles { list-style: none; margin: 0; padding: 0; display: grid; gap: .9rem .5rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(158px, 44%), 1fr)); }
.tiles figure { margin: 0; display: grid; grid-template-rows: minmax(120px, auto) auto; gap: .3rem; }
.tiles figure > * { min-width: 0; } .tiles .shot { align-self: end; }
.shot { position: relative; display: block; width: fit-content; max-width: 100%; box-sizing: border-box; }
.shot img { display: block; border: 0; border-radius: 0; }
.unseen { display: grid; place-items: center; width: 150px; max-width: 100%; height: 112px; color: var(--soft);
  background: var(--line); }
.file, .folder { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden;
  overflow-wrap: anywhere; unicode-bidi: isolate; }
.tiles .file, .folder { font-size: .8rem; line-height: 1.3; font-weight: 400; }
.file { color: var(--ink); } .folder { color: var(--soft); }
"""


def picture(path: str) -> np.ndarray | None:
    """An image file, no larger than a page shows it: (height, width, 3) uint8; None if it cannot be read (any more)."""
    try:
        image = decode(path)
    except UnreadableImage:
        return None
    image.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def thumbnail(image: np.ndarray | None, alternative: str) -> str:
    """An image of a page.

    Args:
        image: (height, width, 3) uint8 of any size; the longer side is shrunk to ``LONGER_SIDE``. None: there is none.
        alternative: what stands for it where it cannot be seen, as text.
    """
    if image is None:
        return '<span class="unseen">no picture</span>'
    small = Image.fromarray(image)
    small.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS)
    scale = min(WIDTH / small.width, HEIGHT / small.height)
    width, height = (max(1, round(scale * side)) for side in small.size)
    return (
        f'<img src="{jpeg(small, QUALITY)}" alt="{text(alternative)}" width="{width}" height="{height}" '
        'decoding="async">'
    )


def name_below(name: str) -> str:
    """The name of an image, or the file and then the folder of a path; too long a name shows where the mouse rests."""
    path = PurePath(name)
    folder = path.parent.as_posix() + "/" if len(path.parts) > 1 else ""
    lines = (("file", path.name if folder else name), ("folder", folder))
    return "".join(f'<span class="{kind}" title="{text(name)}">{_wrapped(part)}</span>' for kind, part in lines if part)


def jpeg(image: Image.Image, quality: int) -> str:
    """An image as the data URI of a JPEG file."""
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()


def _wrapped(name: str) -> str:
    """Text that may break after a folder or a word."""
    return re.sub("([/_])", r"\1<wbr>", text(name))
