"""What was published, produced and suffered, by lines that each process appends to a file of its own; and what a referee makes of it.

A line is written by one call of the kernel: it is there whole, or not at all, whoever is killed. All times are of one monotonic clock,
which all processes of a machine share, whatever they believe the time of day to be.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PUBLISHED: Final = "P"  # at, id, key
TROUBLE: Final = "T"  # at, what: this process was stopped, cut off, fenced, or was not answered
COMMITTED: Final = "C"  # at, id, key, begun: the transaction was about to commit at `begun`, and had at `at`
ROLLED_BACK: Final = "R"  # at, id
DONE: Final = "D"  # at


@final
class Journal:
    """One process's own file."""

    def __init__(self, folder: Path, who: int) -> None:
        self._file = os.open(folder / f"{who}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, kind: str, *words: object) -> None:
        line = " ".join(map(str, (kind, time.monotonic_ns(), *words)))
        os.write(self._file, f"{line}\n".encode())


@final
@dataclass(frozen=True, slots=True)
class Published:
    """One arrival at the broker."""

    at: int
    id: str
    key: str
    by: int


@final
@dataclass(slots=True)
class Books:
    """All journals of a run, read once it is over."""

    published: list[Published] = field(default_factory=list)
    committed: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # key, begun, at
    rolled_back: set[str] = field(default_factory=set)
    trouble: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # of a process: when

    @classmethod
    def read(cls, folder: Path) -> Books:
        books = cls()
        for file in folder.iterdir():
            for line in file.read_text(encoding="utf-8").splitlines():
                books.note(int(file.name), line.split(" "))
        books.published.sort(key=lambda one: one.at)
        return books

    def note(self, who: int, words: list[str]) -> None:
        kind, at, *more = words
        if kind == PUBLISHED:
            self.published.append(Published(int(at), more[0], more[1], who))
        elif kind == COMMITTED:
            self.committed[more[0]] = (more[1], int(more[2]), int(at))
        elif kind == ROLLED_BACK:
            self.rolled_back.add(more[0])
        elif kind == TROUBLE:
            self.trouble[who].append(int(at))

    # --- the laws --------------------------------------------------------------------------------------------------------

    def lost(self) -> set[str]:
        """Events that were committed and never arrived."""
        return set(self.committed) - {one.id for one in self.published}

    def ghosts(self) -> set[str]:
        """Events that arrived although their transaction was rolled back."""
        return self.rolled_back & {one.id for one in self.published}

    def inversions(self) -> list[str]:
        """Events whose transaction had committed before that of another of their key began to, and that arrived after it."""
        latest: dict[str, int] = defaultdict(int)  # of a key: the latest beginning of a commit that has arrived
        found: list[str] = []
        for one in self._first_arrivals():
            key, begun, committed = self.committed.get(one.id, (one.key, 0, 1 << 62))  # its producer was not told: any order will do
            if latest[key] > committed:
                found.append(one.id)
            latest[key] = max(latest[key], begun)
        return found

    def _first_arrivals(self) -> Iterable[Published]:
        seen: set[str] = set()
        for one in self.published:
            if one.id not in seen:
                seen.add(one.id)
                yield one

    def doubled(self) -> list[tuple[Published, Published]]:
        """Each arrival that was not the first, behind the one before it."""
        last: dict[str, Published] = {}
        pairs: list[tuple[Published, Published]] = []
        for one in self.published:
            if one.id in last:
                pairs.append((last[one.id], one))
            last[one.id] = one
        return pairs

    def unexplained(self) -> list[tuple[Published, Published]]:
        """Duplicates without a reason: neither of the two that published was in trouble in between."""
        return [(a, b) for a, b in self.doubled() if not any(a.at <= when <= b.at for by in (a.by, b.by) for when in self.trouble[by])]
