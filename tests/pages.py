"""README and the pages of docs, taken apart: their fenced blocks, the commands in them, and the prose between."""

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str

    @property
    def lines(self) -> list[list[str]]:
        """What stands in a shell, each line in words: settings of variables and launchers are left out."""
        found = []
        for line in self.text.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words = words[1:]
                if words and words[0] == "torchrun":
                    words = words[words.index("dinotools") :]
                if words:
                    found.append(words)
        return found


class Page:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        return [Block(*found) for found in FENCE.findall(self.text)]

    @cached_property
    def prose(self) -> str:
        return FENCE.sub("", self.text)

    @property
    def lines(self) -> list[list[str]]:
        return [words for block in self.blocks if block.language == "bash" for words in block.lines]

    @property
    def commands(self) -> list[list[str]]:
        """What follows ``dinotools``."""
        return [words[1:] for words in self.lines if words[0] == "dinotools"]

    @property
    def anchors(self) -> set[str]:
        """Of its headings, as MkDocs makes them."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


PAGES = [Page(path) for path in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])]
