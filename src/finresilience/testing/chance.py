"""Which task goes next? Chance decides, from one seed: it reorders what is ready and postpones some of it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, final
from weakref import WeakKeyDictionary

from finresilience.testing.tape import KEPT, Tape

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

T = TypeVar("T")
_Named: TypeAlias = "list[tuple[int, T]]"

_LONGEST: Final = 24  # rounds that one task may be kept back at a stretch; everything has a bound


@final
class Chance:
    """One run's luck. With `seed=None` it changes nothing, but for what a `tape` tells.

    Shuffling alone is lockstep: a race that needs one task to be two steps behind is never found by it. So each run
    also draws how often it keeps tasks back for a round, and how often it sends one to sleep for many.

    Args:
        seed: of all choices; None for the plain order.
        tape: choices to make again, instead of a seed's.

    Attributes:
        steps: who ran, in order of first appearance, if somebody put a list there.
        record: where the choices that differ from the plain order are written down, if somebody put a tape there.
    """

    __slots__ = ("_asleep", "_named", "_names", "_nap", "_random", "_ready", "_skip", "_tape", "record", "steps")

    def __init__(self, seed: int | None, *, tape: Tape | None = None) -> None:
        self._random = None if seed is None or tape is not None else Random(seed)
        self._tape = tape
        self._names: WeakKeyDictionary[Hashable, int] = WeakKeyDictionary()  # a year of tasks must not stay in memory
        self._named = 0
        self._asleep: dict[int, int] = {}
        self._ready: dict[int, int] = {}  # how often each was ready, counted where a tape is written or read
        self.steps: list[int] | None = None
        self.record: Tape | None = None
        if self._random is not None:  # each seed is another mix: some only shuffle, some only postpone
            self._skip = self._random.choice((0.0, 0.1, 0.3, 0.5))
            self._nap = self._random.choice((0.0, 0.02, 0.1, 0.3))

    @property
    def plain(self) -> bool:
        """Whether it changes and records nothing."""
        return self._random is None and self._tape is None and self.steps is None and self.record is None

    def order(self, tasks: Sequence[tuple[Hashable, T]]) -> tuple[list[T], list[T]]:
        """Split the ready (name, item) pairs into those that run now, in order, and those that wait for the next round."""
        named = [(self._number_of(name), item) for name, item in tasks]
        now, later = named, named[:0]
        if self._random is not None:
            now, later = self._dealt(named, self._random)
        elif self._tape is not None:
            now, later = self._as_told(named, self._tape)
        if len(later) == 1 and not now:  # nobody else is ready: to wait would change nothing
            now, later = later, now
        if self.record is not None:
            self._write(named, now, later, self.record)
        if self._tape is not None or self.record is not None:
            for number, _ in named:
                self._ready[number] = self._ready.get(number, 0) + 1
        if self.steps is not None:
            self.steps += [number for number, _ in now]
        return [item for _, item in now], [item for _, item in later]

    def _number_of(self, name: Hashable) -> int:
        number = self._names.get(name)
        if number is None:
            number = self._names[name] = self._named
            self._named += 1
        return number

    def _dealt(self, named: _Named[T], random: Random) -> tuple[_Named[T], _Named[T]]:
        now = list(named)
        random.shuffle(now)
        kept = {id(pair) for pair in now if self._postponed(pair[0], random)}
        later = [pair for pair in named if id(pair) in kept]  # in plain order: only what runs is reordered
        return [pair for pair in now if id(pair) not in kept], later

    def _postponed(self, number: int, random: Random) -> bool:
        left = self._asleep.pop(number, 0)
        if left == 0 and random.random() < self._nap:
            left = random.randint(2, _LONGEST + 1)
        if left > 1:
            self._asleep[number] = left - 1
            return True
        return left == 1 or random.random() < self._skip

    # ------------------------------------------------------------------ tapes

    def _as_told(self, named: _Named[T], tape: Tape) -> tuple[_Named[T], _Named[T]]:
        now: _Named[T] = []
        later: _Named[T] = []
        for pair in named:
            (later if tape.choices.get(self._place_of(pair[0])) == KEPT else now).append(pair)
        ranked = [(tape.choices.get(self._place_of(pair[0]), plain), plain, pair) for plain, pair in enumerate(now)]
        ranked.sort(key=lambda rank: rank[:2])
        return [pair for _, _, pair in ranked], later

    def _write(self, named: _Named[T], now: _Named[T], later: _Named[T], tape: Tape) -> None:
        for number, _ in later:
            tape.choices[self._place_of(number)] = KEPT
        kept = {id(pair) for pair in later}
        plain = [pair[0] for pair in named if id(pair) not in kept]
        for place, (number, _) in enumerate(now):
            if plain[place] != number:
                tape.choices[self._place_of(number)] = place

    def _place_of(self, number: int) -> tuple[int, int]:
        return number, self._ready.get(number, 0)
