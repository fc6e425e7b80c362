"""``dinotools duplicates``: groups of near-copies among one's photos, the one to keep first.

The photos below a folder are described as by ``dinotools index``, in an index that is kept in the cache; a threshold
is found (``calibration.py``); photos that are as similar as that to a better one are its copies (``copies.py``).
Nothing is deleted.

    dinotools duplicates ~/Pictures --ckpt dino_vits16 --html duplicates.html --out duplicates
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from dinotools.configs import files
from dinotools.configs.photos import DuplicatesConfig
from dinotools.data.images import ImageFiles
from dinotools.features.descriptors import Descriptors
from dinotools.photos.calibration import FALSE_SHARE, LARGEST, Calibration, calibrate
from dinotools.photos.copies import Found, find_groups
from dinotools.photos.indexing import bring_up_to_date
from dinotools.photos.network import kept_settings, open_index, open_network
from dinotools.reporting.groups import Copy, Group, file_size, page
from dinotools.reporting.thumbnails import picture
from dinotools.runtime import device, run_directory
from dinotools.runtime.cache import cache_directory
from dinotools.runtime.console import track
from dinotools.runtime.errors import require
from dinotools.runtime.results import Result, versions

MOST_SHOWN = 500  # groups of a page, those first that take the most room


def run(config: DuplicatesConfig) -> Result:
    """Brings the index up to date, finds the threshold, then the groups.

    Raises:
        DinotoolsError: the folder, the network or the index cannot be used; too many unreadable photos, or too few
            photos to find a threshold.
        RunFailed: a vector is not finite.
    """
    given = config.threshold
    require(given is None or 0 < given <= 1, f"is {given}", "threshold", "It must be above 0 and at most 1.")
    if config.html is not None:
        run_directory.check_writable(config.html.expanduser(), "--html")  # now, not when the work is done
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    ImageFiles.in_folder(config.dir)  # a wrong folder is told before the network is loaded
    descriptors = open_network(config, runtime, config.seed)
    folder = config.index.expanduser() if config.index else default_index(Path(config.dir), descriptors)
    index = open_index(folder, config, descriptors, config.seed)
    if config.out is not None:
        inputs = (config.ckpt, config.dir, config.index)
        run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)
    update = bring_up_to_date(index, Path(config.dir), descriptors)
    calibration = calibrate(index, descriptors, config.seed) if given is None else None
    threshold = calibration.threshold if calibration else min(float(given or 0), LARGEST)
    groups = find_groups(index, threshold, runtime.device)

    copies = [copy for group in groups for copy in group[1:]]
    counts = {
        "photos": update.photos,
        "unreadable": update.unreadable,
        "groups": len(groups),
        "copies": len(copies),
        "identical": sum(copy["identical"] for copy in copies),
        "bytes": sum(copy["bytes"] for copy in copies),
    }
    notes = _notes(threshold, calibration, update.photos)
    if config.html is not None:
        write_page(config.html.expanduser(), config.dir, groups, notes[0], calibration)
        notes.append(f"Open {config.html} in a browser.")
    elif config.out is None and groups:
        notes.append("Add --html PAGE to see the groups, or --out DIR to have them as a list.")
    shown = counts | {"bytes": file_size(counts["bytes"]), "threshold": f"{threshold:.4f}"}
    return Result(
        title=f"duplicates in {config.dir} · {descriptors.backbone.source}",
        rows=[shown],
        metrics=counts | {"threshold": threshold, "groups_found": groups},
        details=descriptors.describe()
        | {"index": str(index.folder), "calibration": calibration and calibration.describe()}
        | {"skipped": [photo.path for photo in index.unreadable]},
        notes=tuple(notes),
    )


def default_index(folder: Path, descriptors: Descriptors) -> Path:
    """Where the index of a folder is kept if nobody says: in the user's cache, by folder and settings."""
    key = json.dumps([str(folder.expanduser().resolve()), kept_settings(descriptors)], sort_keys=True)
    return cache_directory("photos") / hashlib.sha256(key.encode()).hexdigest()[:16]


def write_page(path: Path, folder: str, groups: Sequence[Found], lead: str, calibration: Calibration | None) -> None:
    """Writes a page of the groups, with the photos in it."""
    shown = []
    for group in track(groups[:MOST_SHOWN], "page", total=min(len(groups), MOST_SHOWN)):
        said = ("width", "height", "bytes", "similarity")
        shown.append(
            Group([Copy(copy["path"], picture(copy["path"]), **{key: copy[key] for key in said}) for copy in group])
        )
    if len(groups) > MOST_SHOWN:
        lead += f" {MOST_SHOWN} of {len(groups):,} groups are shown, those that take the most room."
    rows = []
    if calibration:
        lead += f" What it finds of copies made of {calibration.photos} of the photos:"
        rows = [{kind: f"{100 * share:.0f}\N{NO-BREAK SPACE}%" for kind, share in calibration.found.items()}]
    footer = f"dinotools {versions()['dinotools']}. Nothing was deleted."
    text = page(f"Near-copies in {folder}", lead, shown, footer, rows)
    run_directory.write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _notes(threshold: float, calibration: Calibration | None, photos: int) -> list[str]:
    if calibration is None:
        return [f"Copies are at least {threshold:.4f} similar to the first of their group, as --threshold says."]
    shares = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in calibration.found.items())
    return [
        f"Copies are at least {threshold:.5f} similar to the first of their group. By estimate, one in "
        f"{round(1 / FALSE_SHARE):,} photos without a copy reaches that by accident: {photos * FALSE_SHARE:.1f} here.",
        f"Of copies made of {calibration.photos} of these photos it finds: {shares}.",
    ]
