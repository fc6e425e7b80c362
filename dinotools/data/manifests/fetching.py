"""``dinotools data fetch``: downloads what is missing of a data set, checks it and unpacks it.

What no program can fetch, because one must register or ask first, is named with the page to do that at and the place to
put it; the same command then checks and unpacks it.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from dinotools.configs.data_sets import DataFetchConfig
from dinotools.data.manifests import manifest as manifests
from dinotools.data.manifests.manifest import File, Manifest
from dinotools.data.manifests.unpacking import NOTES, is_unpacked, unpack_once
from dinotools.runtime.console import say
from dinotools.runtime.downloading import MEGABYTE, download, free_room
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.results import Result
from dinotools.runtime.run_directory import check_writable

FEW = 5  # names in a sentence
WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)  # a night of downloads survives a short break


def run(config: DataFetchConfig) -> Result:
    """Fetches a data set into a folder; what is there already stays.

    Raises:
        DinotoolsError: there is no such data set or file, something must be downloaded by hand, a file that is there
            has a wrong sum, or the disk is too small.
        RunFailed: no mirror has a file, or the disk would not take it.
    """
    manifest = manifests.read(config.name)
    chosen = _chosen(manifest, config.files)
    check_writable(config.to / chosen[0].name if chosen else config.to / "files", "--to")
    say(f"{manifest.title} · licence: {manifest.licence} · terms: {manifest.terms}")
    _check_room(chosen, config.to)
    states = {file.name: _settle(file, config) for file in chosen if file.urls or _is_there(file, config.to)}
    by_hand = [file for file in chosen if file.name not in states]
    if by_hand or not manifest.files:
        raise _to_do_by_hand(manifest, by_hand, config.to)
    rows = [
        {"file": file.name, "MB": None if file.bytes is None else file.bytes / MEGABYTE, "state": states[file.name]}
        for file in chosen
    ]
    return Result(
        title=f"{manifest.title} · {config.to}",
        rows=rows,
        metrics={"files": states},
        details={"name": manifest.name, "licence": manifest.licence, "homepage": manifest.homepage},
        notes=_next_steps(manifest, config, states),
    )


def _chosen(manifest: Manifest, wanted: tuple[str, ...]) -> list[File]:
    known = [file.name for file in manifest.files]
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=FEW) or known
            raise DinotoolsError(f"{manifest.name} has no file {name!r}", "--files", f"It has {_few(close)}.")
    return [file for file in manifest.files if not wanted or file.name in wanted]


def _is_there(file: File, folder: Path) -> bool:
    return (folder / file.name).is_file() or is_unpacked(file, folder)


def _check_room(files: list[File], folder: Path) -> None:
    missing = sum(file.bytes or 0 for file in files if file.urls and not _is_there(file, folder))
    if missing > free_room(folder):
        what = f"there is no room for the {missing / MEGABYTE:,.0f} MB that are to come"
        raise DinotoolsError(what, folder, "Free some, choose another --to, or name some of the --files.")


def _settle(file: File, config: DataFetchConfig) -> str:
    """Brings one file into its place; returns in words what became of it."""
    path = config.to / file.name
    if is_unpacked(file, config.to):
        return "unpacked before"
    there = path.is_file()
    if there:
        if fault := file.fingerprint.fault_of(path):
            raise DinotoolsError(fault, path, "Delete it, or move it away, and fetch it again.")
    else:
        download(file.urls, path, file.fingerprint, waits=WAITS_S)
    state = "there before" if there else "downloaded"
    if file.unpack is None:
        return state
    unpack_once(file, config.to)
    if file.urls and not config.keep:  # one that somebody brought by hand is not ours to delete
        path.unlink()
    return f"{state}, unpacked"


def _to_do_by_hand(manifest: Manifest, files: list[File], folder: Path) -> DinotoolsError:
    what = f"{_few([file.name for file in files])} must be downloaded by hand" if files else "must be got by hand"
    then = f" Put {'it' if len(files) == 1 else 'them'} into {folder} and repeat the command." if files else ""
    return DinotoolsError(what, manifest.title, f"{manifest.how_to_get} Home page: {manifest.homepage}.{then}")


def _few(names: list[str]) -> str:
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")


def _next_steps(manifest: Manifest, config: DataFetchConfig, states: dict[str, str]) -> tuple[str, ...]:
    notes = []
    if "unpacked before" in states.values():
        notes.append(
            f"What {config.to / NOTES} notes as unpacked is not fetched again; delete that folder to have it so."
        )
    if manifest.prepare != "plain":
        notes.append(f"Next: dinotools data prepare {manifest.name} {config.to}")
    notes.append(f"Look whether all is there: dinotools data check {manifest.name} {config.to}")
    return tuple(notes)
