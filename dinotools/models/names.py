"""What to say to a name that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy for a misspelt name: the nearest known ones, or where none is near, the first few."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=2)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"Known are {', '.join(known[:12])}{' and others' if len(known) > 12 else ''}."
