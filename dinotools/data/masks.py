"""Masks of objects: indexed PNGs with the DAVIS palette, and the first mask of a video.

A mask is (H, W) uint8: 0 is the background, 1 and up are objects, and beside other objects 255 is void.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from dinotools.runtime.console import warn
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import write_atomically

MAX_OBJECTS = 255  # what an 8-bit index can tell apart, beside the background
VOID = 255  # pixels that DAVIS and PASCAL VOC give to nobody
MODES = ("P", "L", "1")  # Pillow's names of images whose pixel is one number of up to 8 bits
ASPECT_TOLERANCE = 0.01  # 854 x 480 belongs to 1920 x 1080
INDEXED = "Save it as an indexed or 8-bit grey PNG whose values are the numbers of the objects."


def palette() -> bytes:
    """The PASCAL VOC colour map, which is that of DAVIS too: 768 bytes, red, green and blue of 256 indices.

    From its lowest bits on, every three bits of an index give the next lower bit of red, green and blue.
    """
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for step in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * step + channel) & 1) << (7 - step)).astype(np.uint8)
    return colours.tobytes()


def read_mask(path: str | Path) -> np.ndarray:
    """Reads the numbers of an indexed or grey PNG of up to 8 bits, whatever their colours.

    Returns:
        (H, W) uint8; of a 1-bit grey PNG 0 and 1.

    Raises:
        DinotoolsError: not there, no PNG, damaged, or its pixels are colours or numbers of more than 8 bits.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
    except UnidentifiedImageError:
        raise DinotoolsError("is not a PNG", path, INDEXED) from None
    except Exception as error:  # on damaged files Pillow's parsers raise almost anything
        reason = error.strerror if isinstance(error, OSError) else None
        raise DinotoolsError(f"cannot be read ({reason or error})", path, "Give a mask as an indexed PNG.") from error
    if image.mode not in MODES:
        kind = "large numbers" if image.mode.startswith(("I", "F")) else "colours"
        raise DinotoolsError(f"holds {kind} (mode {image.mode}), not numbers of objects", path, INDEXED)
    return np.asarray(image).astype(np.uint8)


def write_mask(path: str | Path, mask: np.ndarray) -> None:
    """Writes an indexed PNG with the DAVIS palette, whole or not at all.

    Args:
        path: the file; its folder is made if need be.
        mask: (H, W) uint8.

    Raises:
        DinotoolsError: it cannot be written.
    """
    image = Image.fromarray(mask)
    image.putpalette(palette())
    try:
        write_atomically(Path(path), lambda temporary: image.save(temporary, format="PNG"))
    except OSError as error:
        raise DinotoolsError(f"cannot be written ({error.strerror})", path, "Choose another place.") from error


def read_first_mask(paths: Sequence[str | Path], height: int, width: int) -> np.ndarray:
    """The objects of a video's first frame, from one PNG that numbers them or from one PNG for each.

    One PNG: its numbers stay, unless there is but one object that white stands for, which becomes 1; beside other
    objects 255 is void and becomes background. Several PNGs: whatever is not 0 in the first is object 1, in the
    second 2, and so on; where two overlap the later one wins, with a warning. A mask of another size is scaled to
    that of the video, with a warning, if it has the same aspect.

    Args:
        paths: the files.
        height: of the video's frames, upright.
        width: likewise.

    Returns:
        (height, width) uint8.

    Raises:
        DinotoolsError: as from ``read_mask``; no object, more than 255, an object without a pixel, another aspect.
    """
    if not paths:
        raise DinotoolsError("names no file", "--mask", "Give the mask of the first frame.")
    if len(paths) > MAX_OBJECTS:
        raise DinotoolsError(f"{len(paths)} objects are more than {MAX_OBJECTS}", "--mask", "Leave some out.")
    mask = _numbered(read_mask(paths[0]), paths[0]) if len(paths) == 1 else _combined(paths)
    if mask.shape != (height, width):
        mask = _scaled(mask, height, width, paths[0])
    return mask


def _numbered(mask: np.ndarray, path: str | Path) -> np.ndarray:
    objects = _objects(mask)
    if not objects:
        raise DinotoolsError("marks no object", path, "Give the objects of the first frame numbers from 1.")
    if objects == {VOID}:
        return (mask > 0).astype(np.uint8)
    if VOID in objects:
        warn(f"{path}: 255 is void and becomes background")
        return np.where(mask == VOID, np.uint8(0), mask)
    return mask


def _combined(paths: Sequence[str | Path]) -> np.ndarray:
    """One mask of several with an object each, numbered in their order."""
    marked = [read_mask(path) > 0 for path in paths]
    mask = np.zeros(marked[0].shape, np.uint8)
    for number, (path, pixels) in enumerate(zip(paths, marked, strict=True), start=1):
        if pixels.shape != mask.shape:
            raise DinotoolsError(f"is {_size(pixels)}, {paths[0]} {_size(mask)}", path, "Give masks of one size.")
        if not pixels.any():
            raise DinotoolsError("marks no object", path, "Leave it out: what the first frame lacks is never found.")
        shared = np.count_nonzero(mask[pixels])
        if shared:
            warn(f"{path}: takes {shared:,} of its {np.count_nonzero(pixels):,} pixels from objects before it")
        mask[pixels] = number
    hidden = set(range(1, len(paths) + 1)) - _objects(mask)
    if hidden:
        raise DinotoolsError(
            "is covered by objects after it", paths[min(hidden) - 1], "Give it later, or leave it out."
        )
    return mask


def _scaled(mask: np.ndarray, height: int, width: int, path: str | Path) -> np.ndarray:
    sizes = f"is {_size(mask)}, the video {width} x {height}"
    if abs(mask.shape[1] * height / (mask.shape[0] * width) - 1) > ASPECT_TOLERANCE:
        raise DinotoolsError(f"{sizes}: another aspect", path, "Give a mask of the first frame, as it is shown.")
    warn(f"{path}: {sizes}; scaled")
    scaled = np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    lost = _objects(mask) - _objects(scaled)
    if lost:
        what = f"{sizes}, and scaled to that object {min(lost)} has no pixel left"
        raise DinotoolsError(what, path, "Give a mask of the video's size.")
    return scaled


def _objects(mask: np.ndarray) -> set[int]:
    return set(np.unique(mask).tolist()) - {0}


def _size(mask: np.ndarray) -> str:
    return f"{mask.shape[1]} x {mask.shape[0]}"
