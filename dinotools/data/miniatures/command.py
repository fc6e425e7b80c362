"""``dinotools data sample NAME --to DIR``: a miniature of a data set, in the layout that the commands read.

It is made of scikit-learn's digits and of three photographs that come with libraries, without a network. With the same
seed, and the same Pillow, its files are the same to the byte.

    dinotools data sample davis2017 --to data/davis2017
"""

from __future__ import annotations

import difflib
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

from numpy.random import RandomState

from dinotools.configs.data_sets import DataSampleConfig
from dinotools.data.miniatures import classes, copies, landmarks, segmentation, unlabelled, video
from dinotools.runtime.errors import DinotoolsError, require
from dinotools.runtime.results import Result

MINIATURES: dict[str, Callable[[Path, RandomState], None]] = {
    "imagenet": classes.write_imagenet,
    "cifar10": classes.write_png,
    "cifar100": classes.write_png,
    "flowers102": classes.write_jpg,
    "cars": classes.write_jpg,
    "inat18": classes.write_jpg,
    "inat19": classes.write_jpg,
    "places205": classes.write_jpg,
    "gldv2": unlabelled.write_google_landmarks,
    "roxford5k": landmarks.write_oxford,
    "rparis6k": landmarks.write_paris,
    "r1m": unlabelled.write_distractors,
    "copydays": copies.write,
    "yfcc": unlabelled.write_yfcc,
    "davis2017": video.write,
    "voc2012": segmentation.write,
}
README = "README.txt"
NOTE = (
    "A miniature for trying commands: its pictures are not those of {name}, and no number made with it means anything."
)


def run(config: DataSampleConfig) -> Result:
    """Makes a miniature; its folder appears when it is whole.

    Raises:
        DinotoolsError: there is no such data set, or the folder holds something or cannot be written.
    """
    require(0 <= config.seed < 2**32, f"is {config.seed}", "seed", "It must be from 0 to 2^32 - 1.")
    if config.name not in MINIATURES:
        close = difflib.get_close_matches(config.name, MINIATURES, n=1)
        known = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(MINIATURES)}."
        raise DinotoolsError("there is no miniature of such a data set", config.name, known)
    folder = config.to.expanduser()
    note = NOTE.format(name=config.name)
    try:
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            what = "is a file" if folder.is_file() else "is not empty"
            raise DinotoolsError(what, folder, "Choose another --to; nothing is replaced.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as hidden:
            made = Path(hidden) / "made"
            made.mkdir()
            MINIATURES[config.name](made, RandomState([config.seed, crc32(config.name.encode())]))
            made_by = f"Made by: dinotools data sample {config.name} --seed {config.seed}"
            (made / README).write_text(f"{note}\n{made_by}\n", encoding="utf-8")
            if folder.is_dir():
                folder.rmdir()  # empty: Windows would not rename over it
            made.rename(folder)
    except OSError as error:
        raise DinotoolsError(f"cannot be written ({error.strerror})", folder, "Choose another --to.") from error
    counts = _count(folder)
    return Result(
        title=f"A miniature of {config.name} in {folder}",
        rows=[{"in it": name, "files": count} for name, count in counts.items()],
        metrics={"files": counts},
        details={"data": config.name, "miniature": True},
        notes=(note,),
    )


def _count(folder: Path) -> dict[str, int]:
    """Files by the folder of the miniature that they lie in, or . for the miniature itself."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return dict(sorted(Counter(path.parts[0] if len(path.parts) > 1 else "." for path in files).items()))
