"""``dinotools data prepare NAME DIR``: from the publishers' files to the layout that the commands read.

dinotools data prepare imagenet data/imagenet
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dinotools.configs.data_sets import DataPrepareConfig
from dinotools.data.manifests import unpacking
from dinotools.data.manifests.manifest import Manifest, read
from dinotools.data.manifests.preparation import (
    cifar,
    copydays,
    imagenet,
    inaturalist,
    landmarks,
    matlab,
    nested,
    places205,
    yfcc,
)
from dinotools.data.manifests.preparation.steps import Step
from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.runtime.results import Result

PREPARATIONS: dict[str, Callable[[Path, Manifest, int], list[Step]]] = {
    "plain": nested.prepare,
    "nested": nested.prepare,
    "imagenet": imagenet.prepare,
    "cifar": cifar.prepare,
    "flowers102": matlab.prepare_flowers,
    "cars": matlab.prepare_cars,
    "inaturalist": inaturalist.prepare,
    "oxford_paris": landmarks.prepare_retrieval,
    "gldv2": landmarks.prepare_gldv2,
    "copydays": copydays.prepare,
    "yfcc": yfcc.prepare,
    "places205": places205.prepare,
}


def run(config: DataPrepareConfig) -> Result:
    """Unpacks what lies there packed, and puts everything into its place; repeated, it does what is left to do.

    Raises:
        DinotoolsError: there is no such data set or folder, or a file is missing or damaged.
        RunFailed: the disk does not take it.
    """
    manifest, folder = read(config.name), config.folder.expanduser()
    if not folder.is_dir():
        remedy = f"`dinotools data fetch {manifest.name} --to {folder}` makes it, or make it and put the files there."
        raise DinotoolsError("there is no such folder", folder, remedy)
    try:
        steps = [*_unpack(manifest, folder), *PREPARATIONS[manifest.prepare](folder, manifest, config.seed)]
    except OSError as error:
        where = error.filename or folder
        raise RunFailed(f"cannot be prepared ({error.strerror or error})", where, "Repeat to go on.") from error
    done = sum(step.done for step in steps)
    return Result(
        title=f"{manifest.title} in {folder}" + ("" if done else ": nothing was left to do"),
        rows=[{"step": step.what, "now": step.done, "before": step.before} for step in steps],
        metrics={"now": done, "before": sum(step.before for step in steps)},
        details={"data": manifest.name, "seed": config.seed},
        notes=(f"`dinotools data check {manifest.name} {folder}` says whether all is there.",),
    )


def _unpack(manifest: Manifest, folder: Path) -> list[Step]:
    """Unpacks the archives that lie in the folder; they stay."""
    here = [file for file in manifest.files if (folder / file.name).is_file()]
    for file in here:
        size = (folder / file.name).stat().st_size
        if file.bytes is not None and size != file.bytes and not unpacking.is_unpacked(file, folder):
            what = f"is {size:,} bytes, not {file.bytes:,}"
            raise DinotoolsError(what, folder / file.name, "Download it again, or remove it if it is another one.")
    packed = [file for file in here if file.unpack is not None]
    done = sum(unpacking.unpack_once(file, folder) for file in packed)
    return [Step("archives unpacked", done, len(packed) - done)] if packed else []
