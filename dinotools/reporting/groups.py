"""A page of groups of near-copies, to decide which of them to keep. One file, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dinotools.reporting import thumbnails
from dinotools.reporting.html import document, table, text
from dinotools.reporting.thumbnails import name_below, thumbnail

SPACE = "\N{NO-BREAK SPACE}"  # before a unit

STYLE = """
body { max-width: 86rem; }
article { margin: 1.2rem 0; padding: 1rem 1.2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; }
h2 { margin: 0 0 .8rem; } h2 small { font-weight: 400; font-size: .9rem; color: var(--soft); margin-left: .5rem; }
figcaption { font-size: .8rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
figcaption > * { display: block; } figcaption strong { color: var(--ink); }
.shot { border: 1px solid var(--line); } .first .shot { border: 4px double var(--ink); }
summary { margin-top: .8rem; font-size: .9rem; cursor: pointer; }
pre { font-size: .85rem; margin: .4rem 0 0; user-select: all; }
@media (max-width: 45rem) { body { padding: 1rem .8rem; } article { padding: .8rem; } }
"""


@dataclass(frozen=True)
class Copy:
    """An image file.

    Args:
        name: its path.
        image: (height, width, 3) uint8, or None; ``thumbnails.LONGER_SIDE`` pixels are all that is shown.
        width: of the file, in pixels.
        height: of the file, in pixels.
        bytes: size of the file.
        similarity: to the first image of its group.
    """

    name: str
    image: np.ndarray | None
    width: int
    height: int
    bytes: int
    similarity: float


@dataclass(frozen=True)
class Group:
    """Near-copies: one or more, the one to keep first."""

    copies: Sequence[Copy]


def page(title: str, lead: str, groups: Sequence[Group], footer: str, rows: Sequence[dict[str, Any]] = ()) -> str:
    """The page as one HTML document, thumbnails inside: about 8 MB for a thousand photographs.

    Args:
        title: its heading.
        lead: what counts as a near-copy here: the threshold and where it comes from.
        groups: in the order in which they shall stand.
        footer: its last line.
        rows: a table below the lead, one dict per row, such as the share of copies found by kind of attack.
    """
    parts = [table(rows)] if rows else []
    parts.append("<main>")
    parts += [_article(number, group) for number, group in enumerate(groups, start=1)]
    if not groups:
        parts.append("<p>There are none.</p>")
    parts.append("</main>")
    return document(title, lead, "\n".join(parts), footer, style=thumbnails.STYLE + STYLE)


def file_size(size: int) -> str:
    """A number of bytes as a person reads it, in units of 1,000: ``3.4 MB``."""
    if size < 1000:
        return f"{size}{SPACE}bytes"
    value, unit = (size / 1e6, "MB") if size >= 999_500 else (size / 1e3, "kB")
    return f"{value:.1f}{SPACE}{unit}" if value < 10 else f"{value:,.0f}{SPACE}{unit}"


def _article(number: int, group: Group) -> str:
    rest = group.copies[1:]
    tiles = "".join(_tile(copy, is_first=not i) for i, copy in enumerate(group.copies))
    paths = text("\n".join(copy.name for copy in group.copies))
    size = file_size(sum(copy.bytes for copy in rest))
    return f"""<article>
<h2>Group {number:,} <small>{len(group.copies):,} images; all but the first take {size}</small></h2>
<ol class="tiles">
{tiles}</ol>
<details><summary>Paths</summary><pre>{paths}</pre></details>
</article>"""


def _tile(copy: Copy, *, is_first: bool) -> str:
    alike = "<strong>to keep</strong>" if is_first else f"<strong>similarity {copy.similarity:.3f}</strong>"
    return f"""<li{' class="first"' if is_first else ""}><figure>
<span class="shot">{thumbnail(copy.image, copy.name)}</span>
<figcaption>{alike}<span>{copy.width:,} × {copy.height:,}, {file_size(copy.bytes)}</span>{name_below(copy.name)}
</figcaption></figure></li>
"""
