"""Which choices made a schedule? Written down so that it can be run again, without the choices that do not matter."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias, final

from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Unit: TypeAlias = tuple[int, int, int, int]  # task, readiness, choice, how often in a row
KEPT: Final = -1  # for one round; any other choice is a place in the round's order, 0 for the first
_CHOICE: Final = re.compile(r"(\d+)@(\d+)(?:\*([1-9]\d*)|=(\d+))")


@final
class Tape:
    """The choices of one run that differ from the plain order.

    Each is told by the task and by how often it had been ready before, not by a moment of the run: so the others still
    mean the same once one is taken out. Written `1@4*3`, task 1 is kept back from its fourth readiness on, three times;
    written `2@7=0`, task 2 goes first in the round of its seventh. Tasks count from 0 in the order in which they appear.

    Args:
        choices: `KEPT` or a place, by task and readiness.
    """

    __slots__ = ("choices",)

    def __init__(self, choices: Mapping[tuple[int, int], int]) -> None:
        self.choices: dict[tuple[int, int], int] = dict(choices)

    def units(self) -> list[Unit]:
        """Return (task, readiness, choice, length), in which to be kept back several times at a stretch is one unit."""
        found: list[Unit] = []
        for (task, ready), choice in sorted(self.choices.items()):
            if choice == KEPT and found and found[-1][2] == KEPT and found[-1][0] == task and sum(found[-1][1::2]) == ready:
                found[-1] = (*found[-1][:3], found[-1][3] + 1)
            else:
                found.append((task, ready, choice, 1))
        return found

    @classmethod
    def of(cls, units: Iterable[Unit]) -> Tape:
        """Return the tape that has these units."""
        return cls({(task, ready + more): choice for task, ready, choice, length in units for more in range(length)})

    @classmethod
    def parse(cls, text: object) -> Tape:
        """Return the tape as `str` writes it.

        Raises:
            ConfigurationError: if it is none.
        """
        found = [_CHOICE.fullmatch(word) for word in text.split()] if isinstance(text, str) else [None]
        units = [
            (int(match[1]), int(match[2]), KEPT if match[4] is None else int(match[4]), int(match[3] or 1)) for match in found if match
        ]
        if len(units) != len(found) or any(length > 1_000_000 for *_, length in units):
            raise ConfigurationError("trace= takes what a failure prints, such as trace='1@4*3 2@7=0', or '' for the plain order")
        return cls.of(units)

    def __str__(self) -> str:
        return " ".join(
            f"{task}@{ready}*{length}" if choice == KEPT else f"{task}@{ready}={choice}" for task, ready, choice, length in self.units()
        )

    def __repr__(self) -> str:
        return f"Tape.parse({str(self)!r})"
