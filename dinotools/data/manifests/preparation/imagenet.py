"""ImageNet: a tar of one tar per class, and flat validation images whose classes are in the development kit."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from dinotools.data.manifests.manifest import Manifest
from dinotools.data.manifests.preparation.steps import Step, is_missing, move_all
from dinotools.runtime.console import track
from dinotools.runtime.errors import DinotoolsError

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
CLASS = re.compile(r"n\d+\.tar")


def prepare(folder: Path, manifest: Manifest, seed: int) -> list[Step]:
    """Makes train/WNID/ and val/WNID/. Archives stay; class by class, training images appear whole.

    Raises:
        DinotoolsError: an archive is missing or damaged.
    """
    return [_prepare_training(folder, manifest), _prepare_validation(folder, manifest)]


def _prepare_training(folder: Path, manifest: Manifest) -> Step:
    train = folder / "train"
    before = sum(path.is_dir() for path in train.glob("n*"))
    loose = sorted(train.glob("n*.tar"))
    if not (folder / TRAIN).is_file() and not loose and not before:
        raise is_missing(folder / TRAIN, manifest, TRAIN)
    done = 0
    for name, content in track(_class_archives(folder / TRAIN, loose), "unpacking classes", None):
        target = train / name.removesuffix(".tar")
        if not target.is_dir():
            _unpack_class(content, target, name)
            done += 1
    return Step("classes of training images unpacked", done, before)


def _class_archives(archive: Path, loose: list[Path]) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every class's tar: those in the archive, and those that somebody has unpacked from it."""
    for path in loose:
        with path.open("rb") as file:
            yield path.name, file
    if archive.is_file():
        try:
            with tarfile.open(archive) as outer:
                for member in outer:
                    content = outer.extractfile(member) if member.isreg() else None
                    if content is None or not CLASS.fullmatch(member.name):
                        raise DinotoolsError(f"has {member.name!a}, which is no class", archive, "Download it again.")
                    yield member.name, content
        except tarfile.TarError as error:
            raise DinotoolsError(f"is damaged ({error})", archive, "Download it again.") from error


def _unpack_class(content: IO[bytes], target: Path, name: str) -> None:
    """Writes the images of a class into a new folder, which appears when they are all there."""
    hidden = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    try:
        with tarfile.open(fileobj=content) as images:
            for member in images:
                image = images.extractfile(member) if member.isreg() else None
                if image is None or Path(member.name).name != member.name:
                    raise DinotoolsError(f"has {member.name!a}, which is no image", name, "Download it again.")
                with image, (hidden / member.name).open("xb") as file:
                    shutil.copyfileobj(image, file)
    except tarfile.TarError as error:
        raise DinotoolsError(f"is damaged ({error})", name, "Download the archive again.") from error
    hidden.rename(target)


def _prepare_validation(folder: Path, manifest: Manifest) -> Step:
    what = "validation images into the folders of their classes"
    val = folder / "val"
    flat = sorted(val.glob("ILSVRC2012_val_*.JPEG"))
    before = sum(1 for _ in val.glob("n*/*.JPEG"))
    if not flat:
        if not before:
            raise is_missing(val, manifest, VAL)
        return Step(what, 0, before)
    wnids = _validation_classes(folder, manifest)
    try:
        moves = [(path, val / wnids[int(path.stem.rpartition("_")[2]) - 1] / path.name) for path in flat]
    except (ValueError, IndexError) as error:
        raise DinotoolsError(f"has images beyond the {len(wnids):,} that the kit knows", val, "Remove them.") from error
    return Step(what, move_all(moves, what, "Repeat.").done, before)


def _validation_classes(folder: Path, manifest: Manifest) -> list[str]:
    """The WordNet ids of the validation images, in the order of their numbers."""
    from scipy.io import loadmat  # type: ignore[import-untyped]

    kit = folder / DEVKIT.removesuffix(".tar.gz") / "data"
    truth, meta = kit / "ILSVRC2012_validation_ground_truth.txt", kit / "meta.mat"
    for path in (truth, meta):
        if not path.is_file():
            raise is_missing(path, manifest, DEVKIT)
    try:
        synsets = np.atleast_1d(loadmat(meta, squeeze_me=True)["synsets"])
        wnids = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
        return [wnids[int(number)] for number in truth.read_text(encoding="ascii").split()]
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise DinotoolsError("is not as the development kit has it", kit, "Unpack it again.") from error
