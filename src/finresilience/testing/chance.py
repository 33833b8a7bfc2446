"""Which task goes next? Chance decides, from one seed: it reorders what is ready and postpones some of it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final, TypeVar, final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

T = TypeVar("T")

_LONGEST: Final = 24  # rounds that one task may be kept back at a stretch; everything has a bound


@final
class Chance:
    """One run's luck. With `seed=None` it changes nothing.

    Shuffling alone is lockstep: a race that needs one task to be two steps behind is never found by it. So each run
    also draws how often it keeps tasks back for a round, and how often it sends one to sleep for many.
    """

    __slots__ = ("_asleep", "_named", "_names", "_nap", "_random", "_skip", "steps")

    def __init__(self, seed: int | None) -> None:
        self._random = None if seed is None else Random(seed)
        self._names: WeakKeyDictionary[Hashable, int] = WeakKeyDictionary()  # a year of tasks must not stay in memory
        self._named = 0
        self._asleep: dict[int, int] = {}
        self.steps: list[int] | None = None  # who ran, in order of first appearance; recorded where somebody asks for it
        if self._random is not None:  # each seed is another mix: some only shuffle, some only postpone
            self._skip = self._random.choice((0.0, 0.1, 0.3, 0.5))
            self._nap = self._random.choice((0.0, 0.02, 0.1, 0.3))

    @property
    def plain(self) -> bool:
        """Whether it changes and records nothing."""
        return self._random is None and self.steps is None

    def order(self, tasks: Sequence[tuple[Hashable, T]]) -> tuple[list[T], list[T]]:
        """Split the ready (name, item) pairs into those that run now, in order, and those that wait for the next round."""
        named = [(self._number_of(name), item) for name, item in tasks]
        now, later = named, named[:0]
        if self._random is not None:
            self._random.shuffle(named)
            now, later = [], []
            for pair in named:
                (later if self._postponed(pair[0], self._random) else now).append(pair)
            if len(later) == 1 and not now:  # nobody else is ready: to wait would change nothing
                now, later = later, now
        if self.steps is not None:
            self.steps += [number for number, _ in now]
        return [item for _, item in now], [item for _, item in later]

    def _number_of(self, name: Hashable) -> int:
        number = self._names.get(name)
        if number is None:
            number = self._names[name] = self._named
            self._named += 1
        return number

    def _postponed(self, number: int, random: Random) -> bool:
        left = self._asleep.pop(number, 0)
        if left == 0 and random.random() < self._nap:
            left = random.randint(2, _LONGEST + 1)
        if left > 1:
            self._asleep[number] = left - 1
            return True
        return left == 1 or random.random() < self._skip
