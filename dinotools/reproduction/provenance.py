"""What made every number: file, command, network, data, machine."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dinotools.reporting import html
from dinotools.reporting.tables import cell
from dinotools.reproduction.collecting import Found
from dinotools.runtime.console import warn
from dinotools.runtime.run_directory import OPTIONS

CLIMB = 2  # folders that a link may go up: whoever moves the page moves what lies so near with it


@dataclass(frozen=True)
class Entry:
    """A result on the page.

    Args:
        name: of its folder; where several have the same, their paths.
        anchor: id of the element that tells its provenance.
        found: the result.
    """

    name: str
    anchor: str
    found: Found

    @property
    def command(self) -> str:
        """Such as ``knn`` or ``models throughput``."""
        words = str(self.found.document.get("command", "")).split()
        start = next((i for i, word in enumerate(words) if Path(word).stem == "dinotools"), 0)
        return " ".join(words[start + 1 :])

    @property
    def network(self) -> str:
        """What was measured, in a few words; "" where there was no network."""
        checkpoint = self.section("details", "checkpoint")
        return str(checkpoint.get("source") or self.section("config").get("ckpt") or "")

    def section(self, *names: str) -> dict[str, Any]:
        """A part of the document, or one within it: ``config``, or ``details`` and ``data``; empty where it is none."""
        found: Any = self.found.document
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def link(self) -> html.Html:
        """Its name, leading to its provenance."""
        return html.Html(f'<a href="#{self.anchor}">{html.text(self.name)}</a>')

    def subject(self) -> str:
        """What was measured: command, network, data."""
        data = self.section("config").get("data") or self.section("config").get("dataset") or ""
        return " · ".join(filter(None, [self.command, self.network, str(data)]))

    def heading(self) -> str:
        """<h3> with its name, and what was measured below."""
        return f'<h3>{self.link()}</h3><p class="lead">{html.text(self.subject())}</p>'


def named(results: Sequence[Found]) -> list[Entry]:
    """Results with their names, each file once."""
    found = {result.path: result for result in results}
    counts = Counter(path.parent.name for path in found)
    return [
        Entry(path.parent.name if counts[path.parent.name] == 1 else str(path.parent), f"result-{number}", result)
        for number, (path, result) in enumerate(found.items(), start=1)
    ]


def drawn(entries: Sequence[Entry], draw: Callable[[Entry], str]) -> list[str]:
    """What a function makes of every result as HTML, but for "".

    A result or a file beside it that is damaged, or not as this version writes it, is named in place of its picture: it
    must not cost the rest of the page.
    """
    parts = []
    for entry in entries:
        try:
            parts.append(draw(entry))
        except (OSError, LookupError, TypeError, ValueError, AttributeError, csv.Error) as error:
            warn(f"{entry.found.folder}: not drawn, its files are damaged or of another version ({error!r})")
            parts.append(f"{entry.heading()}<p>Not drawn: its files are damaged or of another version.</p>")
    return [part for part in parts if part]


def side_by_side(bodies: Sequence[str]) -> str:
    """Parts of results in two columns where there is room; HTML."""
    return f'<div class="entries">{"".join(f"<div>{body}</div>" for body in bodies)}</div>' if bodies else ""


def linked(path: Path, words: str, page: Path) -> str:
    """A link from a page to a file, as HTML; "" where the file is not there, or far from the page."""
    try:
        relative = Path(os.path.relpath(path, page.parent))
    except ValueError:  # another drive
        return ""
    if not path.is_file() or relative.parts[: CLIMB + 1] == ("..",) * (CLIMB + 1):
        return ""
    return f'<a href="{quote(relative.as_posix())}">{html.text(words)}</a>'


def section(entries: Sequence[Entry]) -> str:
    """Every result, folded; HTML."""
    return "\n".join(html.details(f"{entry.name}: {entry.subject()}", _facts(entry)) for entry in entries)


def _facts(entry: Entry) -> str:
    items = "".join(f"<dt>{html.text(name)}</dt><dd>{html.text(value)}</dd>" for name, value in facts(entry) if value)
    return f'<dl class="facts" id="{entry.anchor}">{items}</dl><pre>{html.text(repeat(entry))}</pre>'


def repeat(entry: Entry) -> str:
    """The command line that measures it again."""
    options = entry.found.folder / OPTIONS
    given = f" --config {_quoted(options)} --out again" if options.is_file() else ""
    return f"dinotools {entry.command}{given}"


def facts(entry: Entry) -> Iterator[tuple[str, str]]:
    """Names and values; what is not known is empty."""
    document, details, config = entry.found.document, entry.section("details"), entry.section("config")
    checkpoint, machine = entry.section("details", "checkpoint"), entry.section("machine")
    yield "file", str(entry.found.path)
    yield "stands for", str(config.get("paper_row") or "")
    arch = " ".join(str(checkpoint[key]) for key in ("arch", "key") if checkpoint.get(key))
    patch = f"patches of {checkpoint['patch_size']}" if checkpoint.get("patch_size") else ""
    yield "checkpoint", ", ".join(filter(None, [str(checkpoint.get("source") or ""), arch, patch]))
    yield "sha256", str(checkpoint.get("sha256") or "")
    yield "data", "; ".join(filter(None, [str(config.get("data") or ""), *_counts(entry.section("details", "data"))]))
    protocol = details.get("protocol")
    yield "protocol", ", ".join(_counts(protocol)) if isinstance(protocol, Mapping) else str(protocol or "")
    device = dict.fromkeys(str(details[key]) for key in ("device", "device_name") if details.get(key))
    yield "device", ", ".join([*device, *([f"precision {details['precision']}"] if details.get("precision") else [])])
    yield "seed", str(config.get("seed", ""))
    yield "versions", ", ".join(f"{name} {version}" for name, version in entry.section("versions").items())
    yield "machine", ", ".join(f"{name} {value}" for name, value in machine.items())
    seconds = document.get("wall_time_s")
    yield "wall time", f"{seconds:,.1f} s" if isinstance(seconds, (int, float)) else ""
    yield "peak memory", ", ".join(f"{name} {cell(mb)} MB" for name, mb in entry.section("peak_memory_mb").items())


def _counts(data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Numbers and words of a nested mapping; of long lists, how many."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _counts(value, f"{prefix}{name} ")
        elif isinstance(value, list):
            small = len(value) <= 3 and all(isinstance(each, (int, float)) for each in value)
            yield f"{prefix}{name} {', '.join(map(str, value)) if small and value else len(value)}"
        elif value is not None:
            yield f"{prefix}{name} {cell(value)}"


def _quoted(path: Path) -> str:
    """A path as a shell takes it."""
    plain = str(path)
    return (
        plain if plain.replace("/", "").replace(".", "").replace("-", "").replace("_", "").isalnum() else f"'{plain}'"
    )
