"""``dinotools copydays-make``: a set in the layout of Copydays out of anybody's photographs.

The originals are numbered from 2000, as in the real set: ``original/200000.jpg`` is the first, ``strong/200001.jpg``
and ``strong/200002.jpg`` are copies of it. Every copy is a function of the seed, the number and the attack (and of
Pillow's version); attacks.json says what was done to each. Scores on such a set compare networks with one another and
are not those of the paper, whose strong attacks were made by hand.

dinotools copydays-make --images photos --out photos-attacked
dinotools copydays --data photos-attacked --ckpt dino_vits16
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from shlex import quote

from numpy.random import RandomState
from PIL import Image

from dinotools.configs import files
from dinotools.configs.copydays import CopydaysMakeConfig
from dinotools.data import attacks
from dinotools.data.copydays import CROPS, JPEGQUAL, ORIGINAL, STRONG
from dinotools.data.images import BadImages, ImageFiles, UnreadableImage, decode
from dinotools.runtime import run_directory
from dinotools.runtime.console import track
from dinotools.runtime.errors import DinotoolsError, require
from dinotools.runtime.results import Result

QUALITIES = (3, 5, 8, 10, 15, 20, 30, 50, 75)
REMOVED = (10, 15, 20, 30, 40, 50, 60, 70, 80)  # percent of the surface
FIRST = 2000  # number of the first original
MOST = 10_000 - FIRST  # originals, for a name begins with four digits
MOST_STRONG = 99  # copies of an original, which two digits count
PAGES = 10  # photographs, at most, that originals are pasted into; were they originals, a copy would show two of them
LONGEST = 2048  # pixels of an original's longer side; larger than any protocol looks at
FINE = 95  # JPEG quality of what is not to suffer from compression


def run(config: CopydaysMakeConfig) -> Result:
    """Draws the originals, attacks them, and lets the set appear when it is whole.

    Raises:
        DinotoolsError: an option or the folder of images cannot be used, or too many images are unreadable.
    """
    require(1 <= config.originals <= MOST, f"is {config.originals}", "originals", f"It must be 1 to {MOST:,}.")
    require(1 <= config.strong <= MOST_STRONG, f"is {config.strong}", "strong", f"It must be 1 to {MOST_STRONG}.")
    require(0 <= config.seed < 2**32, f"is {config.seed}", "seed", "It must be from 0 to 2^32 - 1.")
    require(0 <= config.max_bad <= 1, f"is {config.max_bad}", "max_bad", "It must lie between 0 and 1.")
    if config.out.expanduser().resolve().is_relative_to(config.images.expanduser().resolve()):
        what = "lies in --images: the copies would be among the photographs of the next set"
        raise DinotoolsError(what, config.out, "Choose an --out elsewhere.")
    found = ImageFiles.in_folder(config.images).paths
    order = RandomState(config.seed).permutation(len(found)).tolist()
    count = min(config.originals, len(found) - max(1, len(found) // 10))  # the others are pages
    drawn, pages = [[found[i] for i in sorted(part)] for part in (order[:count], order[count : count + PAGES])]
    bad = BadImages(config.max_bad, len(drawn) + len(pages))
    run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=(config.images,))

    hidden = config.out / f".{ORIGINAL}"  # under this name until all is there: no reader takes a part for the whole
    sources: dict[str, str] = {}
    for path, image in _readable(track(drawn, "originals", len(drawn)), bad):
        _save(hidden / _name(len(sources)), image)
        sources[_name(len(sources))] = path
    kept = [image for _, image in _readable(pages, bad)]
    if not sources or not kept:
        what = "holds fewer than two readable images, and one is for pasting the others into"
        raise DinotoolsError(what, config.images, "Give a folder with more photographs.")
    strong: dict[str, str] = {}
    for number in track(range(len(sources)), "copies", len(sources)):
        original = decode(hidden / _name(number))
        _write_plain_copies(config, original, number)
        strong |= _write_strong_copies(config, original, number, kept[number % len(kept)])
    run_directory.write_json(config.out / "attacks.json", {ORIGINAL: sources, STRONG: strong})
    hidden.rename(config.out / ORIGINAL)

    counts = {ORIGINAL: len(sources), STRONG: len(strong)}
    counts |= {f"{JPEGQUAL}/{quality}": len(sources) for quality in QUALITIES}
    counts |= {f"{CROPS}/{percent}": len(sources) for percent in REMOVED}
    return Result(
        title=f"Copydays made of {config.images}",
        rows=[{"block": block, "images": count} for block, count in counts.items()],
        metrics={"images": counts},
        details={"skipped": bad.names},
        notes=(f"Measure a network with: dinotools copydays --data {quote(str(config.out))} --ckpt dino_vits16",),
    )


def _readable(paths: Iterable[str], bad: BadImages) -> Iterator[tuple[str, Image.Image]]:
    """Those images that can be read, at most ``LONGEST`` long; counts the others."""
    for path in paths:
        try:
            image = decode(path)
        except UnreadableImage as error:
            bad.add(error)
            continue
        image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        yield path, image


def _write_plain_copies(config: CopydaysMakeConfig, original: Image.Image, number: int) -> None:
    small = attacks.sixteenth(original)
    for quality in QUALITIES:
        _save(config.out / JPEGQUAL / str(quality) / _name(number), small, quality)
    for percent in REMOVED:
        cropped = attacks.crop(original, percent, RandomState([config.seed, number, percent]))
        _save(config.out / CROPS / str(percent) / _name(number), cropped)


def _write_strong_copies(
    config: CopydaysMakeConfig, original: Image.Image, number: int, page: Image.Image
) -> dict[str, str]:
    """Returns name -> attack."""
    made = {}
    for copy in range(1, config.strong + 1):
        random = RandomState([config.seed, number, 100 + copy])  # no percentage
        turn = number * config.strong + copy - 1
        attack = attacks.draw_strong(attacks.KINDS[turn % len(attacks.KINDS)], random)
        _save(config.out / STRONG / _name(number, copy), attacks.attack(original, attack, random, page))
        made[_name(number, copy)] = attack
    return made


def _save(path: Path, image: Image.Image, quality: int = FINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=quality)


def _name(number: int, copy: int = 0) -> str:
    return f"{FIRST + number}{copy:02d}.jpg"
