"""Which of all that happened does the failure need? What can be left out, one by one, while it still fails, is left out."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, TypeVar, final

from finresilience.testing.tape import KEPT, Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from finresilience.testing.faults import Fault
    from finresilience.testing.tape import Unit

T = TypeVar("T")


@final
class Shrinker:
    """Looks for the least that fails. It is greedy and bounded: what it finds is small, not always the smallest.

    Args:
        fails: runs the scenario under these faults and choices, and returns whether it fails as it did before.
        most: how many runs to make at most.
        seconds: how many real seconds to spend at most, so that the failure of a slow scenario is told at all.
    """

    __slots__ = ("_fails", "_left", "_until")

    def __init__(self, fails: Callable[[Sequence[Fault], Tape], bool], most: int, seconds: float = 20.0) -> None:
        self._fails = fails
        self._left = most
        self._until = monotonic() + seconds

    def least(self, faults: Sequence[Fault], tape: Tape) -> tuple[Sequence[Fault], Tape]:
        """Return fewer faults and fewer choices, under which it still fails, as under those given."""
        faults = self._fewest(list(faults), lambda few: self._try(few, tape))

        def still(few: list[Unit]) -> bool:
            return self._try(faults, Tape.of(few))

        before, units = None, self._without(tape.units(), still)
        while units != before and self._left > 0:  # one that is shorter may make another needless
            before, units = units, self._shortest(self._fewest(units, still), still)
        return self._fewest(list(faults), lambda few: self._try(few, Tape.of(units))), Tape.of(units)

    def _try(self, faults: Sequence[Fault], tape: Tape) -> bool:
        if self._left <= 0 or monotonic() >= self._until:
            self._left = 0
            return False
        self._left -= 1
        return self._fails(faults, tape)

    @staticmethod
    def _without(units: list[Unit], fails: Callable[[list[Unit]], bool]) -> list[Unit]:
        """Try to do without all places at once, and without all that is kept back: one of the two is often enough."""
        for kind in (True, False):
            few = [unit for unit in units if (unit[2] == KEPT) is kind]
            if len(few) < len(units) and fails(few):
                return few
        return units

    @staticmethod
    def _fewest(things: list[T], fails: Callable[[list[T]], bool]) -> list[T]:
        """Take out ever smaller parts of `things` while it still fails, and then one by one until nothing can go."""
        if things and fails([]):
            return []
        size = max(len(things) // 2, 1)
        while things:
            before, at = len(things), 0
            while at < len(things):
                few = things[:at] + things[at + size :]
                if len(few) < len(things) and few and fails(few):
                    things = few
                else:
                    at += size
            if size == 1 and len(things) == before:
                break
            size = max(size // 2, 1)
        return things

    @staticmethod
    def _shortest(units: list[Unit], fails: Callable[[list[Unit]], bool]) -> list[Unit]:
        """Keep each task back less long while it still fails."""
        for at, (task, ready, choice, length) in enumerate(units):
            least, most = 1, length  # it fails at `most`
            while least < most:
                middle = (least + most) // 2
                few = [*units[:at], (task, ready, choice, middle), *units[at + 1 :]]
                if fails(few):
                    units, most = few, middle
                else:
                    least = middle + 1
        return units
