"""``dinotools index``: what is new or has changed below a folder of photos, once through the network.

dinotools index ~/Pictures --ckpt dino_vits16 --out pictures.index
dinotools search pictures.index beach.jpg
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

import torch
import torch.nn.functional as F

from dinotools.configs.photos import IndexConfig
from dinotools.data.images import BadImages, ImageFiles
from dinotools.features.descriptors import Descriptors
from dinotools.features.extraction import Extractor, batches_of
from dinotools.photos.network import open_index, open_network
from dinotools.photos.storage import INDEX, LOT, PART, Index, Lot, Photo
from dinotools.runtime import device
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.results import Result
from dinotools.runtime.run_directory import check_writable


@dataclass(frozen=True)
class Update:
    """What became of an index: photos now; those that are new or have changed; files gone; files unreadable."""

    photos: int
    new: int
    changed: int
    removed: int
    unreadable: int


def run(config: IndexConfig) -> Result:
    """Makes an index, or brings it up to date.

    Raises:
        DinotoolsError: the folder, the network or the index cannot be used; too many unreadable photos.
        RunFailed: a vector is not finite.
    """
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    ImageFiles.in_folder(config.dir)  # a wrong folder is told before the network is loaded
    descriptors = open_network(config, runtime, config.seed)
    index = open_index(config.out.expanduser(), config, descriptors, config.seed)
    update = bring_up_to_date(index, Path(config.dir), descriptors)
    counts = asdict(update)
    megabytes = sum(shard.nbytes for shard in index.shards()) / 2**20
    return Result(
        title=f"index of {config.dir} · {descriptors.backbone.source}",
        rows=[counts | {"width": descriptors.width, "MiB": megabytes}],
        metrics=counts,
        details=descriptors.describe() | {"skipped": [photo.path for photo in index.unreadable]},
        notes=(f"Search it with, for example: dinotools search {quote(str(config.out))} PHOTO",),
    )


def bring_up_to_date(index: Index, folder: Path, descriptors: Descriptors) -> Update:
    """Makes an index agree with the photos that lie below a folder now.

    Args:
        index: of this folder, or of the same one before it was moved.
        folder: of the photos.
        descriptors: the network that made the index.

    Raises:
        DinotoolsError: the folder holds no images, the index is of another one or has to be written and cannot be, or
            too many photos are unreadable; what was done until then is kept.
        RunFailed: a vector is not finite.
    """
    root = folder.expanduser().resolve()
    _settle(index, root)
    index.remove_leftovers()  # of a command that was killed
    present = {photo.path: photo for photo in photos_below(root)}
    before = {photo.path: photo for photo in (*index.photos, *index.unreadable)}
    if before != present:
        check_writable(index.folder / INDEX, "folder for the index")  # now, not when the work is done
    drop_outdated(index, present)
    new = [photo for path, photo in present.items() if before.get(path) != photo]
    if new:
        _describe(index, root, new, descriptors, total=len(present))
        drop_outdated(index, present)  # joins the parts
    bad = BadImages(descriptors.max_bad, len(present))
    bad.check(len(index.unreadable), root)  # with those that were known before
    readable = {photo.path for photo in index.photos}
    described = [photo.path for photo in new if photo.path in readable]
    changed = sum(path in before for path in described)
    removed = sum(path not in present for path in before)
    return Update(len(readable), len(described) - changed, changed, removed, len(index.unreadable))


def photos_below(root: Path) -> list[Photo]:
    """The image files below a folder as they are now.

    Raises:
        DinotoolsError: there are none.
    """
    start = len(str(root).rstrip(os.sep)) + 1
    found = []
    for path in ImageFiles.in_folder(root).paths:
        try:
            status = Path(path).stat()
            size, changed = status.st_size, status.st_mtime_ns
        except OSError:  # a link that leads nowhere: an unreadable photo
            size = changed = 0
        found.append(Photo(path[start:], size, changed))
    return found


def drop_outdated(index: Index, present: dict[str, Photo]) -> None:
    """Writes lots anew whose photos are gone or have changed, and joins those that are less than half full.

    Args:
        index: the index.
        present: path -> photo of everything that is there now.
    """
    kept = {lot.name: [present.get(photo.path) == photo for photo in lot.photos] for lot in index.lots}
    outdated = [lot for lot in index.lots if not all(kept[lot.name]) or not _all_present(lot.unreadable, present)]
    small = [lot for lot in index.lots if sum(kept[lot.name]) < LOT // 2]
    groups: list[list[Lot]] = []
    for lot in [lot for lot in index.lots if lot in outdated or lot in small]:
        if groups and sum(sum(kept[other.name]) for other in (*groups[-1], lot)) <= LOT:
            groups[-1].append(lot)
        else:
            groups.append([lot])
    for group in groups:
        if len(group) == 1 and group[0] not in outdated:
            continue
        rows = torch.cat([index.vectors(lot)[torch.tensor(kept[lot.name], dtype=torch.bool)] for lot in group])
        photos = [photo for lot in group for photo, stays in zip(lot.photos, kept[lot.name], strict=True) if stays]
        unreadable = [photo for lot in group for photo in lot.unreadable if present.get(photo.path) == photo]
        index.add(rows, photos, unreadable, instead_of=group)


def _settle(index: Index, root: Path) -> None:
    """Notes where the photos are, which may have moved."""
    noted = index.facts["photos"]
    if noted == str(root):
        return
    if noted is not None and Path(noted).is_dir():
        what = f"is the index of {noted}, which is still there"
        raise DinotoolsError(what, index.folder, f"Choose another folder for the index of {root}.")
    index.facts["photos"] = str(root)
    index.save()


def _all_present(photos: Sequence[Photo], present: dict[str, Photo]) -> bool:
    return all(present.get(photo.path) == photo for photo in photos)


def _describe(index: Index, root: Path, new: list[Photo], descriptors: Descriptors, total: int) -> None:
    """Adds photos, each PART of them as soon as it is described."""
    images = ImageFiles([str(root / photo.path) for photo in new])
    extractor = Extractor(descriptors.network, images, descriptors.runtime, descriptors.view)
    extractor.bad = BadImages(descriptors.max_bad, total)  # one bad photo that came in alone is not all of them
    parts = batches_of(range(len(new)), PART)
    lots = extractor.run(parts, descriptors.batch_size, "photos")
    for part, found in zip(parts, lots, strict=True):
        readable = set(found.indices.tolist())
        photos = [new[i] for i in part if i in readable]
        index.add(F.normalize(found.features), photos, [new[i] for i in part if i not in readable])
