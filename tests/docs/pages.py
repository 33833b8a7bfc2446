"""What stands on the pages a reader sees: their fenced blocks and their links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENTRANCES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
PAGES = tuple(sorted([*ENTRANCES, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[([^\]\[]*)\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", flags=re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, the language it says it is in, and the line it begins on."""

    language: str
    text: str
    line: int


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    return [Block(found[1], found[2], text.count("\n", 0, found.start(2))) for found in _FENCE.finditer(text)]


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def links(text: str) -> list[tuple[str, str]]:
    """Return the words and the target of every link in the prose."""
    return [(found[1], found[2]) for found in _LINK.finditer(prose(text))]


def anchors(text: str) -> set[str]:
    """Return the names under which the page's headings can be linked to, as forges make them."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _HEADING.findall(prose(text))}
