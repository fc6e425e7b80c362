"""A page of ranked lists: each query, its scores, and what was found for it, best first. One file, no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np

from dinotools.reporting import thumbnails
from dinotools.reporting.html import document, text
from dinotools.reporting.thumbnails import name_below, thumbnail

Verdict = Literal["positive", "negative", "junk"]

SIGNS: dict[Verdict, tuple[str, str]] = {  # what tells the frames apart beside their colours, and what they mean
    "positive": ("✓", "positive: shows what the query shows"),
    "negative": ("✗", "negative: does not"),
    "junk": ("–", "junk: too little of it to judge; counts as neither and takes no rank"),
}

STYLE = """
:root { --positive: #0b7d4b; --negative: #c8321f; --junk: #676e77; --sign: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --positive: #46c48a; --negative: #ff7f68; --junk: #969ea7; --sign: #17191c; }
}
.tools, .legend { display: flex; flex-wrap: wrap; gap: .4rem 1.4rem; margin: 1rem 0; padding: 0; list-style: none;
  font-size: .9rem; }
.tools[hidden] { display: none; }
select { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 4px;
  padding: .2rem .4rem; max-width: 100%; }
article { display: grid; grid-template-columns: 11rem 1fr; gap: 1rem 1.2rem; padding: 1.4rem 0;
  border-top: 1px solid var(--line); }
article > * { min-width: 0; } article figure { margin: 0; } article figcaption { font-variant-numeric: tabular-nums; }
.query .name { font-size: 1rem; line-height: 1.3; margin: .5rem 0 .3rem; font-weight: 600; }
.query dl { display: grid; grid-template-columns: auto auto; justify-content: start; gap: 0 .8rem; margin: 0;
  font-size: .85rem; } .query dt { color: var(--soft); } .query dd { margin: 0; font-variant-numeric: tabular-nums; }
.query { align-self: start; position: sticky; top: .8rem; } .cropped { overflow: hidden; }
.box { position: absolute; border: 2px solid #fff; box-shadow: 0 0 0 1px #000, 0 0 0 99rem #0008; }
.hit { border: 1px solid var(--line); }
.positive { border: 4px solid var(--positive); }
.negative { border: 4px dashed var(--negative); }
.junk { border: 4px dotted var(--junk); }
.sign { position: absolute; left: 0; top: 0; min-width: 1.3rem; text-align: center; font-weight: 700; line-height: 1.4;
  color: var(--sign); }
.positive > .sign { background: var(--positive); } .negative > .sign { background: var(--negative); }
.junk > .sign { background: var(--junk); }
.legend li { display: flex; gap: .5rem; align-items: center; }
.legend .shot { flex: none; width: 2.2rem; height: 1.8rem; } .legend .sign { inset: 0; }
.rank { color: var(--ink); font-weight: 600; margin-right: .5rem; }
.further { margin: .8rem 0 0; color: var(--soft); }
@media (max-width: 45rem) {
  article { grid-template-columns: 1fr; }
  .query { position: static; display: grid; grid-template-columns: auto 1fr; gap: .8rem; }
  .query .name { margin-top: 0; }
}
"""

PAGE_STYLE = """
body { max-width: 86rem; }
@media (max-width: 45rem) { body { padding: 1rem .8rem; } }
"""

SCRIPT = """
const order = document.getElementById("order");
const lists = [...document.querySelectorAll("article")];
const scores = new Map(lists.map((list) => [list, JSON.parse(list.dataset.scores)]));
order.addEventListener("change", () => {
  const [column, sign] = JSON.parse(order.value);
  const compare = (a, b) => (a === null) - (b === null) || sign * (a - b);
  const sorted = [...lists].sort((a, b) => compare(scores.get(a)[column] ?? null, scores.get(b)[column] ?? null));
  document.querySelector("main").append(...(sign ? sorted : lists));
});
order.closest(".tools").hidden = false;
"""


@dataclass(frozen=True)
class Hit:
    """An image that was found.

    Args:
        name: what a user can find it by.
        similarity: to the query.
        verdict: of the ground truth, or None without one.
        image: (height, width, 3) uint8, or None; ``thumbnails.LONGER_SIDE`` pixels are all that is shown.
    """

    name: str
    similarity: float
    verdict: Verdict | None
    image: np.ndarray | None


@dataclass(frozen=True)
class RankedList:
    """A query and what was found for it.

    Args:
        name: of the query.
        image: of the query, as in ``Hit``.
        box: (left, top, right, bottom) of the part that was searched for, in fractions of width and height, or None.
        scores: name -> fraction of 1, or None where the query has no positives; the same names for every query.
        hits: best first.
        missed: positives that are not among the hits.
    """

    name: str
    image: np.ndarray | None
    box: tuple[float, float, float, float] | None
    scores: dict[str, float | None]
    hits: Sequence[Hit]
    missed: int


def page(title: str, lead: str, lists: Sequence[RankedList], footer: str) -> str:
    """The page as one HTML document, thumbnails inside: about 8 MB for a thousand photographs.

    Raises:
        ValueError: a score is NaN; that of a query without positives is None.
    """
    body = f"{legend(lists)}{_orders(lists)}<main>\n{''.join(map(article, lists))}</main>"
    if lists and lists[0].scores:
        body += f"<script>{SCRIPT}</script>"
    return document(title, lead, body, footer, style=thumbnails.STYLE + STYLE + PAGE_STYLE)


def legend(lists: Sequence[RankedList]) -> str:
    """What the frames mean, of those that occur."""
    present = {hit.verdict for found in lists for hit in found.hits}
    items = [
        f'<li><span class="shot {verdict}">{_sign(verdict)}</span>{meaning}</li>'
        for verdict, (_, meaning) in SIGNS.items()
        if verdict in present
    ]
    if any(found.box for found in lists):
        items.append("<li>The bright part of a query is what was searched for.</li>")
    return f'<ul class="legend">{"".join(items)}</ul>\n' if items else ""


def _orders(lists: Sequence[RankedList]) -> str:
    """The choice of an order; without a script the lists stay as given and there is none."""
    if not lists or not lists[0].scores:
        return ""
    options = "".join(
        f'<option value="[{column}, {sign}]">{text(name)}, {which} first</option>'
        for column, name in enumerate(lists[0].scores)
        for sign, which in ((1, "worst"), (-1, "best"))
    )
    return (
        '<p class="tools" hidden><label>Order: <select id="order" autocomplete="off">'
        f'<option value="[0, 0]">as given</option>{options}</select></label></p>\n'
    )


def article(found: RankedList, level: int = 2) -> str:
    """A query and its list, as HTML that needs the STYLE of this file and of the thumbnails.

    Args:
        found: what is shown.
        level: of its heading, from 1.
    """
    scores = "".join(
        f"<dt>{text(name)}</dt><dd>{'no positives' if score is None else f'{100 * score:.1f} %'}</dd>"
        for name, score in found.scores.items()
    )
    ranks = count(1)
    tiles = "".join(_tile(hit, "junk" if hit.verdict == "junk" else str(next(ranks))) for hit in found.hits)
    further = f"{found.missed:,} more positive{'s are' if found.missed > 1 else ' is'} not shown."
    return f"""<article data-scores="{json.dumps(list(found.scores.values()), allow_nan=False)}">
<figure class="query">{_query(found)}
<figcaption><h{level} class="name">{name_below(found.name)}</h{level}>{f"<dl>{scores}</dl>" if scores else ""}
</figcaption></figure>
<div><ol class="tiles">
{tiles}</ol>{f'<p class="further">{further}</p>' if found.missed else ""}</div>
</article>
"""


def _query(found: RankedList) -> str:
    box = ""
    if found.box is not None:
        left, top, right, bottom = (100 * side for side in found.box)
        box = (
            f'<span class="box" style="left: {left:.2f}%; top: {top:.2f}%; '
            f'right: {100 - right:.2f}%; bottom: {100 - bottom:.2f}%"></span>'
        )
    return f'<span class="shot cropped">{thumbnail(found.image, f"query {found.name}")}{box}</span>'


def _tile(hit: Hit, rank: str) -> str:
    sign = _sign(hit.verdict) if hit.verdict else ""
    return f"""<li><figure><span class="shot {hit.verdict or "hit"}">{thumbnail(hit.image, hit.name)}{sign}</span>
<figcaption><span class="rank">{rank}</span>{hit.similarity:.3f} {name_below(hit.name)}</figcaption></figure></li>
"""


def _sign(verdict: Verdict) -> str:
    return f'<span class="sign" role="img" aria-label="{verdict}">{SIGNS[verdict][0]}</span>'
