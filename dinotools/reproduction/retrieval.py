"""Ranked lists of ``dinotools retrieval``: queries that went best and worst, with what they found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from dinotools.evaluation.retrieval.lists import FILE, illustrated
from dinotools.reporting import ranked_lists
from dinotools.reporting.thumbnails import picture
from dinotools.reproduction.provenance import Entry, drawn, linked

BEST = 3  # queries at either end
HITS = 8
JUDGED_BY = "AP Medium"


def section(entries: Sequence[Entry], page: Path) -> str:
    """The best and the worst queries of every result that left its lists; HTML."""
    with_lists = [entry for entry in entries if (entry.found.folder / FILE).is_file()]
    return "\n".join(drawn(with_lists, lambda entry: _lists(entry, page)))


def _lists(entry: Entry, page: Path) -> str:
    shown = lru_cache(maxsize=256)(picture)
    groups = chosen(json.loads((entry.found.folder / FILE).read_text(encoding="utf-8"))["queries"])
    lists = {title: [illustrated(query, shown, HITS) for query in queries] for title, queries in groups.items()}
    parts = [entry.heading(), ranked_lists.legend([each for of in lists.values() for each in of])]
    for title, of in lists.items():
        parts += [f"<h4>{title}</h4>", *(ranked_lists.article(each, level=5) for each in of)]
    whole = entry.section("config").get("html")
    if whole and (link := linked(Path(whole).expanduser(), "All queries", page)):
        parts.append(f"<p>{link}</p>")
    return "\n".join(parts)


def chosen(queries: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The queries that found their positives earliest and latest; those without any are left out.

    Returns:
        heading -> queries, the extreme ones first; no query twice.
    """
    judged = [query for query in queries if query["scores"].get(JUDGED_BY) is not None]
    ranked = sorted(judged, key=lambda query: -query["scores"][JUDGED_BY])
    if len(ranked) <= 2 * BEST:
        return {"All queries, the best first": ranked}
    return {f"The best {BEST} of {len(ranked):,}": ranked[:BEST], f"The worst {BEST}": ranked[: -BEST - 1 : -1]}
