"""Self-contained HTML pages: no network, no other files, light and dark."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinotools.reporting.tables import cell

STYLE = """
:root { color-scheme: light dark; --ink: #22262b; --soft: #636a73; --page: #fbfbfa; --line: #dcdedf; --card: #fff;
  --link: #0b5cad; --series-1: #0072b2; --series-2: #d55e00; --series-3: #00865f; --series-4: #b0588c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e7e8; --soft: #a2a8af; --page: #17191c; --line: #34383d; --card: #202327;
    --link: #7fb8f2; --series-1: #56a9e8; --series-2: #f28b3c; --series-3: #2fc795; --series-4: #e29ac4; }
}
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 60rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem; }
p { max-width: 44rem; } .lead, figcaption, footer { color: var(--soft); } a { color: var(--link); }
table { border-collapse: collapse; background: var(--card); } .scroll { overflow-x: auto; }
th, td { padding: .4rem .9rem; border: 1px solid var(--line); text-align: left; font-variant-numeric: tabular-nums; }
.number { text-align: right; }
figure { margin: .8rem 0; } img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 4px; }
pre { overflow-x: auto; padding: .8rem; background: var(--card); border: 1px solid var(--line); border-radius: 4px; }
.chart { display: block; width: 100%; height: auto; font-family: system-ui, sans-serif; fill: var(--ink);
  stroke-linejoin: round; }
"""


class Html(str):
    """Text that is HTML already."""


@dataclass(frozen=True)
class Section:
    """A part of a page: heading, a sentence, then any of a table, pictures and commands.

    Args:
        title: its heading.
        text: what is to be seen.
        rows: a table, one dict per row.
        pictures: (PNG file, alternative text) pairs.
        commands: shell lines.
    """

    title: str
    text: str = ""
    rows: Sequence[dict[str, Any]] = ()
    pictures: Sequence[tuple[Path, str]] = ()
    commands: str = ""


def page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """The page as one HTML document, pictures inside."""
    body = "\n".join(_section(section) for section in sections)
    return document(title, lead, f"<main>\n{body}\n</main>", footer)


def document(title: str, lead: str, body: str, footer: str, *, style: str = "") -> str:
    """An HTML document in the house's style.

    Args:
        title: its heading, as text.
        lead: a sentence below the heading, as text.
        body: what follows, as HTML.
        footer: its last line, as text.
        style: more CSS.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}{style}</style>
</head>
<body>
<header>
<h1>{text(title)}</h1>
<p class="lead">{text(lead)}</p>
</header>
{body}
<footer><p>{text(footer)}</p></footer>
</body>
</html>
"""


def text(value: str) -> str:
    """Any string as text of a page, or as the value of a quoted attribute.

    Lone surrogates, by which Python spells the bytes of a file name that are no UTF-8, become replacement characters.
    """
    return html.escape(re.sub("[\ud800-\udfff]", "\ufffd", value))


def table(rows: Sequence[dict[str, Any]], label: str = "", *, cards: bool = False) -> str:
    """Rows of the same columns as a table that scrolls sideways where it is too wide.

    Args:
        rows: one dict per row; numbers stand to the right, ``Html`` as it is.
        label: what the table is, for those who do not see what stands above it.
        cards: on a phone, show each row as a card in place of scrolling; the first column is its heading.
    """
    numeric = {column: all(isinstance(row[column], (int, float, type(None))) for row in rows) for column in rows[0]}
    head = "".join(f'<th scope="col"{_aligned(numeric[column])}>{text(column)}</th>' for column in rows[0])
    body = "".join(
        f"<tr>{''.join(_cell(name, value, numeric=numeric[name], cards=cards) for name, value in row.items())}</tr>"
        for row in rows
    )
    named = f' role="region" aria-label="{text(label)}"' if label else ""
    kind = ' class="cards"' if cards else ""
    return (
        f'<div class="scroll" tabindex="0"{named}><table{kind}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def figure(picture: str, caption: str) -> str:
    """A picture and what stands below it.

    Args:
        picture: an <img> or <svg>.
        caption: as text.
    """
    return f"<figure>{picture}<figcaption>{text(caption)}</figcaption></figure>"


def details(summary: str, body: str) -> str:
    """What is folded away until it is asked for.

    Args:
        summary: what it is, as text.
        body: HTML.
    """
    return f"<details><summary>{text(summary)}</summary>\n{body}\n</details>"


def _cell(column: str, value: Any, *, numeric: bool, cards: bool) -> str:
    named = f' data-label="{text(column)}"' if cards else ""
    return f"<td{_aligned(numeric)}{named}>{value if isinstance(value, Html) else text(cell(value))}</td>"


def _aligned(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _section(section: Section) -> str:
    parts = [f"<h2>{text(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{text(section.text)}</p>")
    if section.rows:
        parts.append(table(section.rows))
    parts += [_picture(path, alternative) for path, alternative in section.pictures]
    if section.commands:
        parts.append(f"<pre>{text(section.commands)}</pre>")
    return "\n".join(parts)


def _picture(path: Path, alternative: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return figure(f'<img src="data:image/png;base64,{data}" alt="{text(alternative)}">', alternative)
