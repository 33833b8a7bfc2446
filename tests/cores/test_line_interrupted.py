"""What is left of a decision that was interrupted? A line on which nobody waits for ever, and a rate that nobody exceeds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from finresilience.cores.limiter import LiveTokenBucket
from finresilience.cores.line import Place
from tests.cores.lines import EVERY, TICKS, World, capacity
from tests.cores.test_limiter_laws import deeds, law_of_the_window, numbers

if TYPE_CHECKING:
    from collections.abc import Callable

Bucket: Any = LiveTokenBucket  # final, but not for a saboteur


GIVES_BACK = ("__del__", "leave", "xǁPlaceǁ")  # the last: their name while mutants are tried


def interrupted(line: int, deed: Callable[[], object]) -> bool:
    """Do it, but raise KeyboardInterrupt before the core's line of this number; return whether it came so far."""
    before, seen = sys.gettrace(), 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal seen
        ours = frame.f_globals.get("__name__") in {"finresilience.cores.line", "finresilience.cores.limiter"}
        if not ours or frame.f_code.co_name.startswith(GIVES_BACK):  # what is raised in there, Python swallows
            return None
        seen += event == "line"
        if seen == line and event == "line":
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        deed()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


DEEDS: dict[str, Callable[[World, Any], object]] = {
    "claims": lambda world, _: world.core.join(world.now / TICKS, 99.0),
    "takes": lambda world, _: world.core.take(world.now / TICKS),
    "passes": lambda world, last: world.core.step(last.place, world.now / TICKS),
}


@pytest.mark.parametrize("rule", EVERY)
@pytest.mark.parametrize("deed", DEEDS)
def test_an_interruption_in_the_midst_of_a_decision_leaves_nothing_behind_once_nobody_waits(rule: str, deed: str) -> None:
    line, came = 0, True
    while came:
        line += 1
        world = World(EVERY[rule])
        for _ in range(capacity(world) + 3):
            world.join()
        last = world.waiting[-1]
        world.cancel(1)
        world.now = 2 * TICKS
        came = interrupted(line, lambda world=world, last=last: DEEDS[deed](world, last))  # type: ignore[misc] # a lambda has no types
        del last
        world.waiting.clear()
        world.now += 30 * TICKS
        assert world.nearest == world.now
        assert [bool(world.core.take(world.now / TICKS)) for _ in range(9)] == [number < capacity(world) for number in range(9)], line
    assert line > 10


@pytest.mark.parametrize("rule", EVERY)
@pytest.mark.parametrize("deed", DEEDS)
def test_an_interruption_in_the_midst_of_a_decision_holds_nobody_else_up_and_lets_nobody_pass_too_soon(rule: str, deed: str) -> None:
    line, came = 0, True
    while came:
        line += 1
        world = World(EVERY[rule])
        world.core.lease = 2.0
        for _ in range(capacity(world) + 4):
            world.join()
        world.cancel(1)
        world.now = 2 * TICKS
        last = world.waiting.pop()
        came = interrupted(line, lambda world=world, last=last: DEEDS[deed](world, last))  # type: ignore[misc] # a lambda has no types
        del last
        waiting = [caller.place for caller in world.waiting]
        while waiting:
            waiting += [place for place in [world.core.join(world.now / TICKS, 9.0)] if world.now < 4 * TICKS and isinstance(place, Place)]
            waiting = [place for place in waiting if not passes(world, place)]
            world.now += 1
            assert world.now < 20 * TICKS, line
    assert line > 10


def passes(world: World, place: Place) -> bool:
    passed = world.core.step(place, world.now / TICKS) == 0.0
    if passed:
        world.passes()
    return passed


@pytest.mark.parametrize("rule", EVERY)
@given(steps=deeds, seed=numbers)
def test_a_line_that_is_mended_though_it_was_whole_is_the_same(rule: str, steps: list[tuple[str, int]], seed: int) -> None:
    world = World(EVERY[rule])
    law_of_the_window(world, [*steps, ("join", 9)], seed)
    core = world.core
    before = core.waiting(world.now / TICKS), core._line, list(core._free), dict(core._held)
    core._torn = True
    assert (core.waiting(world.now / TICKS), core._line, core._free, core._held) == before


class Mended(Bucket):  # type: ignore[misc] # of no type
    times = 0

    def _mend(self) -> None:
        super()._mend()
        self.times += 1


def test_a_line_is_mended_once_where_it_is_torn_and_never_where_it_is_not() -> None:
    world = World(EVERY["a bucket of 1"], Mended(EVERY["a bucket of 1"], 0.0))
    assert [world.join() for _ in "ABCD"] == [0, TICKS, 2 * TICKS, 3 * TICKS]
    world.cancel(0)
    assert not world.take()
    world.wait(2 * TICKS)
    assert (world.core.waiting(2.0), world.core.times) == (1, 0)
    world.core.begin_anew()
    assert [world.core.waiting(2.0) for _ in "123"] == [0, 0, 0]
    assert (world.core.busy(2.0), world.core.times) == (1.0, 1)
