"""Are the laws of the line awake? Each is shown a line that is broken in one thing, and must go red."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from math import ceil
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.cores.limiter import LiveSlidingWindow, LiveTokenBucket, SlidingWindow
from finresilience.testing import CounterexampleError, exhaust
from tests.cores.lines import RULES, TICKS, World
from tests.cores.test_limiter_laws import crowd, law_of_the_earliest_slot, law_of_the_window

if TYPE_CHECKING:
    from collections.abc import Callable


class Sample:
    """The sample of the house's style: a number that grows with each claim and shrinks with each that is given back."""

    def __init__(self, rule: Any) -> None:
        self.interval, self.burst, self.due = rule.per / rule.limit, getattr(rule, "burst", 1), float("-inf")
        self.waiting, self.wait = 0, 0.0

    def join(self, now: float, patience: float) -> Any:
        due = max(self.due, now)
        wait = max(0.0, due - now - self.interval * (self.burst - 1))
        if wait > patience:
            return wait
        self.due = due + self.interval
        return type("Slot", (), {"wait": wait, "leave": lambda _: self.give_back()})()

    def take(self, now: float) -> bool:
        return not isinstance(self.join(now, 0.0), float)

    def distance(self, now: float) -> float:
        wait: float = max(self.due, now) - now - self.interval * (self.burst - 1)
        return wait

    def step(self, place: object, now: float) -> float:
        return 0.0

    def give_back(self) -> None:
        self.due -= self.interval


class KeepsWhatIsGivenBack(Sample):
    def give_back(self) -> None: ...


Bucket: Any = LiveTokenBucket  # final, but not for a saboteur
Window: Any = LiveSlidingWindow


class BelievesItsPromises(Bucket):  # type: ignore[misc] # of no type
    """Lets everybody pass at the time it was told, however late the one before it was."""

    def __init__(self, rule: Any) -> None:
        super().__init__(rule, 0.0)

    def step(self, place: Any, now: float) -> float:
        super().step(place, now)
        place.seat.index = -1
        return 0.0


class OvertakesTheLine(Bucket):  # type: ignore[misc] # of no type
    def __init__(self, rule: Any) -> None:
        super().__init__(rule, 0.0)

    def _nearest(self, now: float, stale: int) -> tuple[int, float]:
        return self._first + self._line, self._opens(0, now, 0)


class NeverForgetsAHole(Bucket):  # type: ignore[misc] # of no type
    """A place that was given up is used however late it is."""

    def __init__(self, rule: Any) -> None:
        super().__init__(rule, 0.0)

    def _usable(self, ahead: int, now: float, stale: int) -> bool:
        return True


class NeverForgetsAHoleInTheLog(Window):  # type: ignore[misc] # of no type
    def _usable(self, ahead: int, now: float, stale: int) -> bool:
        return True


class CountsInFixedWindows:
    """The classic: a counter that begins anew at each full second, and so lets twice as many pass across its edge."""

    def __init__(self, rule: SlidingWindow) -> None:
        self.limit, self.second, self.count = rule.limit, -1, 0

    def take(self, now: float) -> bool:
        if int(now) != self.second:
            self.second, self.count = int(now), 0
        self.count += 1
        return self.count <= self.limit

    def join(self, now: float, patience: float) -> float:
        return ceil(now + 0.25) - now


def hunted(make: Callable[[Any], Any], rule: str, law: Any, *, seeds: int = 3000) -> None:
    for seed in range(seeds):
        chance = Random(seed)
        steps = [(chance.choice(["join", "join", "take", "cancel", "wait"]), chance.randrange(10)) for _ in range(12)]
        law(World(RULES[rule], make(RULES[rule])), steps, *((seed,) if law is law_of_the_window else ()))


@pytest.mark.parametrize(
    ("make", "rule", "law"),
    [
        (Sample, "a bucket of 1", law_of_the_window),
        (Sample, "a bucket of 2", law_of_the_window),
        (Sample, "a bucket of 1", law_of_the_earliest_slot),
        (KeepsWhatIsGivenBack, "a bucket of 1", law_of_the_earliest_slot),
        (BelievesItsPromises, "a bucket of 1", law_of_the_window),
        (OvertakesTheLine, "a bucket of 2", law_of_the_earliest_slot),
        (NeverForgetsAHole, "a bucket of 1", law_of_the_earliest_slot),
        (NeverForgetsAHoleInTheLog, "a window of 2", law_of_the_earliest_slot),
        (CountsInFixedWindows, "a window of 2", law_of_the_window),
    ],
)
def test_a_broken_line_is_found_out(make: Any, rule: str, law: Any) -> None:
    with pytest.raises(AssertionError):
        hunted(make, rule, law)


def test_the_naive_way_to_give_a_slot_back_lets_two_pass_at_once() -> None:
    world = World(RULES["a bucket of 1"], Sample(RULES["a bucket of 1"]))
    assert [world.join() for _ in "ABC"] == [0, TICKS, 2 * TICKS]
    world.cancel(0)
    assert world.join() == 2 * TICKS  # at C's own time
    with pytest.raises(AssertionError, match="too many at once"):
        world.wait(2 * TICKS)


def test_some_interleaving_finds_the_naive_way_out() -> None:
    with pytest.raises(CounterexampleError):
        for cancelled in range(4):
            exhaust(crowd(RULES["a bucket of 1"], cancelled, Sample))


@pytest.mark.parametrize("law", [law_of_the_window, law_of_the_earliest_slot])
def test_the_sound_rules_live_through_the_hunt_that_finds_the_broken_ones(law: Any) -> None:
    hunted(lambda rule: rule.start(0.0), "a bucket of 2", law, seeds=500)
    hunted(lambda rule: rule.start(0.0), "a window of 2", law, seeds=500)
