"""``dinotools data check NAME DIR``: what is missing, superfluous or unreadable in a data set, as the commands read it.

Counts are compared with the manifest's; where lists come with the data set, what is missing is called by its name.

    dinotools data check voc2012 data/voc2012
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dinotools.configs.data_sets import DataCheckConfig
from dinotools.data.images import EXTENSIONS
from dinotools.data.manifests.listed import counted, promised
from dinotools.data.manifests.looking import find_unreadable
from dinotools.data.manifests.manifest import Expected, Manifest, read
from dinotools.runtime.console import track
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.results import Result

SHOWN = 5  # names of each finding; all are in the results
KEPT = 10_000  # names of each finding in the results

Kind = Literal["missing", "superfluous", "unreadable"]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Args:
        kind: what it is.
        where: in which part of the data set.
        count: how many files or folders.
        names: which, as far as that is known.
    """

    kind: Kind
    where: str
    count: int
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(self.names[:SHOWN])
        left = self.count - len(self.names[:SHOWN])
        more = f" and {left:,} more" if left else ""
        return f"{self.count:,} {self.kind} in {self.where}" + (f": {shown}{more}" if self.names else "")


def run(config: DataCheckConfig) -> Result:
    """Compares a folder with the manifest; with findings, the exit code is 1.

    Raises:
        DinotoolsError: there is no such data set or folder, or a folder of it, or a list that comes with it, cannot be
            read.
    """
    manifest, folder = read(config.name), config.folder.expanduser()
    try:
        if not folder.is_dir():
            remedy = f"`dinotools data info {manifest.name}` says where it comes from."
            raise DinotoolsError("there is no such folder", folder, remedy)
        return _check(manifest, folder, config)
    except OSError as error:  # of folders alone: what is wrong with a file is a finding
        where = error.filename or folder
        raise DinotoolsError(
            f"cannot be looked into ({error.strerror or error})", where, "Make it readable."
        ) from error


def _check(manifest: Manifest, folder: Path, config: DataCheckConfig) -> Result:
    told = counted(manifest.name, folder)
    parts = [replace(part, count=told.get(part.path, part.count)) for part in manifest.expect]
    files = {part: _files(folder, part) for part in track(parts, "listing", len(parts))}
    found = sorted({path for paths in files.values() for path in paths})
    class_rows, class_findings = _check_classes(manifest, folder)
    listed = promised(manifest.name, folder)
    names = sorted(listed - {_stem(path, folder) for path in found})
    findings = [one for expected, paths in files.items() for one in _compare(expected, len(paths), names)]
    findings += _check_ground_truth(manifest, len(listed))
    unreadable = find_unreadable(found, decoded=config.decode, workers=config.workers)
    reasons = tuple(f"{path.relative_to(folder)} ({why})" for path, why in unreadable.items())
    if unreadable:
        findings.append(Finding("unreadable", str(folder), len(unreadable), reasons))
    return _report(manifest, folder, [*_rows(files, unreadable), *class_rows], findings, class_findings)


def _files(folder: Path, expected: Expected) -> list[Path]:
    return [
        path
        for path in folder.glob(expected.path)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file()
    ]


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _compare(expected: Expected, found: int, missing: Sequence[str]) -> list[Finding]:
    """Compares the number of files of one part; of those that lists name, some may be missing although it is right."""
    beginning = re.split(r"[*?]", expected.path)[0]
    named = tuple(name for name in missing if name.startswith(beginning))
    wanted = max(found, 1) if expected.count is None else expected.count
    lacking = max(wanted - found, len(named))
    findings = [Finding("missing", expected.path, lacking, named)] if lacking else []
    if expected.count is not None and found + lacking > wanted:
        findings.append(Finding("superfluous", expected.path, found + lacking - wanted))
    return findings


def _check_ground_truth(manifest: Manifest, listed: int) -> list[Finding]:
    """Whether that of a retrieval set names as many photos as the published one: another would promise anything."""
    if manifest.prepare != "oxford_paris" or not listed:
        return []
    difference = listed - sum(split.images for split in manifest.splits)
    kind: Kind = "missing" if difference < 0 else "superfluous"
    return [Finding(kind, "what the ground truth names", abs(difference))] if difference else []


def _check_classes(manifest: Manifest, folder: Path) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Counts the classes of each split that has a folder per class; none may be empty, or without training images."""
    by_class = [
        s for s in manifest.splits if s.classes and any(e.path.startswith(f"{s.name}/") for e in manifest.expect)
    ]
    rows, findings, trained = [], [], set[str]()
    for split in by_class:
        if manifest.prepare == "gldv2" or not (folder / split.name).is_dir():
            continue
        folders = [path for path in sorted((folder / split.name).iterdir()) if path.is_dir() and path.name[0] != "."]
        empty = [path.name for path in folders if not any(file.suffix.lower() in EXTENSIONS for file in path.iterdir())]
        names = {path.name for path in folders} - set(empty)
        where = f"classes of {split.name}/"
        rows.append({"part": where, "files": len(folders), "expected": split.classes})
        difference = len(folders) - (split.classes or 0)
        if difference:
            findings.append(Finding("missing" if difference < 0 else "superfluous", where, abs(difference)))
        if empty:
            findings.append(Finding("missing", f"{where}, which are empty", len(empty), tuple(empty)))
        if split.name == "train":
            trained = names
        elif trained and names - trained:
            odd = tuple(sorted(names - trained))
            findings.append(Finding("superfluous", f"{where}, which have no training images", len(odd), odd))
    return rows, findings


def _rows(files: dict[Expected, list[Path]], unreadable: dict[Path, str]) -> list[dict[str, Any]]:
    return [
        {
            "part": expected.path,
            "files": len(paths),
            "expected": expected.count,
            "unreadable": sum(path in unreadable for path in paths),
        }
        for expected, paths in files.items()
    ]


def _report(
    manifest: Manifest, folder: Path, rows: list[dict[str, Any]], of_files: list[Finding], of_classes: list[Finding]
) -> Result:
    findings = [*of_files, *of_classes]
    counts = {
        kind: sum(one.count for one in of_files if one.kind == kind)
        for kind in ("missing", "superfluous", "unreadable")
    }
    known = {Path(expected.path).parts[0] for expected in manifest.expect}
    others = sorted(
        path.name for path in folder.iterdir() if path.name[0] != "." and not any(path.match(part) for part in known)
    )
    notes = [str(finding) for finding in findings]
    if others:
        more = f" and {len(others) - SHOWN:,} more" if len(others) > SHOWN else ""
        notes.append(f"Also there, and read by no command: {', '.join(others[:SHOWN])}{more}")
    failure = None
    if findings:
        packed = {file.name for file in manifest.files}
        raw = any(one in packed or one.lower().endswith(EXTENSIONS) or (folder / one).is_dir() for one in others)
        unprepared = raw and not all(row["files"] for row in rows)
        told = f"{findings[0]}" + f"; and {len(findings) - 1} more, above" * (len(findings) > 1)
        failure = f"{folder}: {told}. {_remedy(manifest, folder, {one.kind for one in findings}, unprepared)}"
    return Result(
        title=f"{manifest.title} in {folder}: {'not as it should be' if findings else 'all is there'}",
        rows=rows,
        metrics={"fine": not findings, **counts, "classes": sum(one.count for one in of_classes)},
        details={
            "data": manifest.name,
            "findings": [
                {"kind": one.kind, "where": one.where, "count": one.count, "names": list(one.names[:KEPT])}
                for one in findings
            ],
            "others": others,
        },
        notes=tuple(notes),
        failure=failure,
    )


def _remedy(manifest: Manifest, folder: Path, kinds: set[Kind], unprepared: bool) -> str:
    """What brings the rest: preparing what lies there, or getting it."""
    if "missing" not in kinds:
        steps = {"superfluous": "Move away what is superfluous.", "unreadable": "Replace what is unreadable."}
        return " ".join(step for kind, step in steps.items() if kind in kinds)
    if unprepared:
        return f"`dinotools data prepare {manifest.name} {folder}` puts what lies there into its place."
    if manifest.access == "open":
        fetch, then = (
            f"`dinotools data fetch {manifest.name} --to {folder}`",
            f"`dinotools data prepare {manifest.name}",
        )
        return f"{fetch} brings what is missing, and {then} {folder}` puts it into its place."
    return f"`dinotools data info {manifest.name}` says where it comes from."
