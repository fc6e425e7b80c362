"""Miniatures of sets for pre-training and for searching in: cuttings of black fields."""

from __future__ import annotations

from pathlib import Path

from numpy.random import RandomState

from dinotools.data.miniatures.cuttings import draw_cutting, elsewhere, save

TRAINING, CLEAN, DISTRACTORS, WHITENING = 128, 108, 20, 40  # images
SIZE = (96, 96)


def write_google_landmarks(folder: Path, random: RandomState) -> None:
    """Writes photos in folders by their ids, and clean.txt, which lists most of them; a field is a landmark."""
    lines = []
    for number in range(TRAINING):
        name = random.bytes(8).hex()
        path = Path("train", *name[:3], f"{name}.jpg")
        _write(folder / path, number, random)
        lines.append(f"{path.as_posix()}\t{number % len(elsewhere())}\n")
    (folder / "clean.txt").write_text("".join(lines[:CLEAN]), encoding="utf-8")


def write_distractors(folder: Path, random: RandomState) -> None:
    """Writes photos that are wrong for every query, and revisitop1m.txt, which lists them."""
    names = [f"{number:06d}.jpg" for number in range(DISTRACTORS)]
    for number, name in enumerate(names):
        _write(folder / "jpg" / name, number, random)
    (folder / "revisitop1m.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def write_yfcc(folder: Path, random: RandomState) -> None:
    """Writes photos to search among, and photos to learn a whitening from."""
    for part, count in (("distractors", DISTRACTORS), ("whitening", WHITENING)):
        for number in range(count):
            _write(folder / part / f"{number:06d}.jpg", number, random)


def _write(path: Path, number: int, random: RandomState) -> None:
    """One photo; the fields take turns."""
    save(draw_cutting(elsewhere()[number % len(elsewhere())], SIZE, random), path)
