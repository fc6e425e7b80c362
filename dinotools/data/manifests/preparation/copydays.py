"""Copydays: two archives without a folder of their own, and two with a folder for every strength of attack."""

from __future__ import annotations

from pathlib import Path

from dinotools.data.copydays import CROPS, JPEGQUAL, ORIGINAL, STRONG
from dinotools.data.manifests.manifest import Manifest
from dinotools.data.manifests.preparation.steps import Move, Step, images_below, is_missing, move_all, remove_empty

BLOCKS = {  # in the layout -> as people unpack it
    ORIGINAL: (ORIGINAL, "copydays_original"),
    STRONG: (STRONG, "copydays_strong"),
    CROPS: (CROPS, "crop", "copydays_crop", "copydays_crops"),
    JPEGQUAL: (JPEGQUAL, "jpeg", "copydays_jpeg"),
}


def prepare(folder: Path, manifest: Manifest, seed: int) -> list[Step]:
    """Makes original/, strong/, crops/10/ ... and jpegqual/3/ ...; the latter two may be missing.

    Raises:
        DinotoolsError: there are no originals, or no strong attacks.
    """
    moves = {block: _moves(folder, block) for block in BLOCKS}
    for path in sorted(folder.glob("*.jpg")):  # unpacked side by side: originals are those whose number ends in 00
        block = ORIGINAL if path.stem.endswith("00") else STRONG
        moves[block].append((path, folder / block / path.name))
    for needed in (ORIGINAL, STRONG):
        if not moves[needed]:
            raise is_missing(folder / needed, manifest, f"copydays_{needed}.tar.gz")
    steps = [move_all(moves[block], f"images into {block}/", "Unpack it again.") for block in BLOCKS if moves[block]]
    for names in BLOCKS.values():
        for name in names:
            remove_empty(folder / name)
    return steps


def _moves(folder: Path, block: str) -> list[Move]:
    """Where the images of a block shall stand; strengths of attack are folders named by a number."""
    found = []
    for name in BLOCKS[block]:
        for path in images_below(folder / name):
            strength = path.parent.name if block in (CROPS, JPEGQUAL) else ""
            if not strength or strength.isdecimal():
                found.append((path, folder / block / strength / path.name))
    return found
