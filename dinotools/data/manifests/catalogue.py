"""``dinotools data list`` and ``dinotools data info``: the data sets of the paper, as their manifests tell of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dinotools.configs.data_sets import DataInfoConfig, DataListConfig
from dinotools.configs.files import shipped
from dinotools.data.manifests import manifest as manifests
from dinotools.data.manifests.manifest import SUMS, File, Manifest, Split
from dinotools.runtime.results import Result

BYTES = {"kB": 1e3, "MB": 1e6, "GB": 1e9}
FEW_FILES = 4  # more are counted
WAYS = {"open": "fetch", "registration": "register", "request": "ask"}
DATA_LINE = re.compile(r"^# Data\s+(.*)$", re.MULTILINE)  # of a recipe's head


def list_sets(config: DataListConfig) -> Result:
    """The data sets, their size and terms, and the recipes that use them."""
    sets = [manifests.read(name) for name in manifests.names()]
    users = recipes_by_set()
    rows = [
        {
            "name": one.name,
            "images": sum(split.images for split in one.splits) or None,
            "download": size_of(one.files),
            "how": WAYS[one.access],
            "licence": one.licence,
            "recipes": " ".join(users[one.name]),
        }
        for one in sets
    ]
    return Result(
        title="Data sets of the paper",
        rows=rows,
        metrics={one.name: _facts(one, users[one.name]) for one in sets},
        notes=(
            "fetch: with `dinotools data fetch NAME --to DIR`; register, ask: there, and put it into DIR yourself",
            "`dinotools data info NAME` says more",
        ),
    )


def describe(config: DataInfoConfig) -> Result:
    """All that is known of a data set.

    Raises:
        DinotoolsError: there is no data set of this name.
    """
    one = manifests.read(config.name)
    users = recipes_by_set()[one.name]
    rows = [{"property": name, "value": value} for name, value in _properties(one, users) if value]
    return Result(title=one.title, rows=rows, metrics=_facts(one, users), notes=tuple(_steps(one)))


def recipes_by_set() -> dict[str, list[str]]:
    """The recipes that name a data set in the line "# Data" of their head, which is where it is written."""
    users: dict[str, list[str]] = {name: [] for name in manifests.names()}
    for path in sorted(shipped("recipes").glob("*.sh"), key=lambda p: _by_number(p.stem)):
        said = DATA_LINE.search(path.read_text(encoding="utf-8"))
        for name in dict.fromkeys(re.findall(r"[\w-]+", said.group(1))) if said else ():
            if name in users:
                users[name].append(path.stem)
    return users


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorts table2 before table10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def size_of(files: Sequence[File]) -> str:
    """How much there is to download, as far as it is known."""
    known = [file.bytes for file in files if file.bytes is not None]
    if not known:
        return ""
    return ("" if len(known) == len(files) else "over ") + _shown(sum(known))


def _shown(size: int) -> str:
    unit = max((u for u in BYTES if size >= BYTES[u]), key=lambda u: BYTES[u], default="kB")
    return f"{size / BYTES[unit]:.3g} {unit}" if size < 100e9 else f"{size / BYTES[unit]:,.0f} {unit}"


def _facts(one: Manifest, users: list[str]) -> dict[str, Any]:
    return {key: value for key, value in asdict(one).items() if key != "name"} | {"recipes": users}


def _properties(one: Manifest, users: list[str]) -> list[tuple[str, str]]:
    """The lines of a table, in the order in which one wants to know; without text where nothing is known."""
    return [
        ("what", one.about),
        ("home page", one.homepage),
        ("cite", one.citation),
        ("licence", one.licence),
        ("terms", one.terms),
        ("access", one.access),
        ("how to get it", one.how_to_get),
        ("size", size_of(one.files)),
        *((f"split {s.name}", _counts(s)) for s in one.splits),
        *(("file", _file(file)) for file in one.files[:FEW_FILES]),
        ("files", f"… and {len(one.files) - FEW_FILES:,} more" if len(one.files) > FEW_FILES else ""),
        *(("layout", _layout(e.path, e.count, e.about)) for e in one.expect),
        *(("command", command) for command in one.commands),
        ("recipes", " ".join(users)),
        *(("known problem", problem) for problem in one.problems),
    ]


def _file(file: File) -> str:
    sums = [f"{kind} {getattr(file, kind)} ({file.sum_source})" for kind in SUMS if getattr(file, kind)]
    size = [] if file.bytes is None else [f"{file.bytes:,} bytes"]
    return "\n".join([file.name, *size, *sums, *file.urls])


def _counts(split: Split) -> str:
    return f"{split.images:,} images" + (f", {split.classes:,} classes or sequences" if split.classes else "")


def _layout(path: str, count: int | None, about: str) -> str:
    return path + (f": {count:,}" if count is not None else "") + (f" · {about}" if about else "")


def _steps(one: Manifest) -> list[str]:
    steps = [("fetch", f"--to data/{one.name}")] if one.files else []
    steps += [("prepare", f"data/{one.name}")] if one.prepare != "plain" else []
    return [f"dinotools data {verb} {one.name} {where}" for verb, where in [*steps, ("check", f"data/{one.name}")]]
