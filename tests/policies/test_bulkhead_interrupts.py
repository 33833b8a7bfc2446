"""Interrupted wherever the interpreter may be interrupted, swept over every such point of a stay: no place is lost.

A signal is looked for where a function begins, where a loop goes back and, up to 3.12 at least, after a call of C: nowhere else. So
not between the return of a function of Python and what its caller does with the answer.
"""

from __future__ import annotations

import dis
import sys
from inspect import getsource
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import BulkheadFullError
from finresilience.cores import bulkhead as core
from finresilience.policies import bulkhead, bulkhead_guard, partitions, waiting
from finresilience.policies.bulkhead import Bulkhead
from finresilience.policies.partitions import Partition
from tests.laws.sabotage import RED
from tests.laws.worlds import still

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

FILES = {module.__file__ for module in (core, bulkhead, bulkhead_guard, partitions, waiting)}
HELPLESS = {"leave", "__exit__"}  # where nobody can help: the instant at which giving a place back begins


class Interrupt:
    """Raises KeyboardInterrupt at that one of the points at which a signal may come in our files."""

    def __init__(self, at: int) -> None:
        self.left, self.where = at, ""
        self._last: dict[FrameType | None, str] = {}

    def on_call(self, frame: FrameType, _event: str, _arg: object) -> Any:
        if frame.f_code.co_name != "__init__":  # which is called by C
            self._last[frame.f_back] = "a function of Python"
        if frame.f_code.co_filename not in FILES:
            return None
        frame.f_trace = self.on_opcode  # before the next line: from 3.13 on, it counts for frames that are traced already
        frame.f_trace_opcodes = True
        if frame.f_code.co_name not in HELPLESS:
            self._point(frame)
        return self.on_opcode

    def on_opcode(self, frame: FrameType, event: str, _arg: object) -> Any:
        if event == "opcode":
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            last, self._last[frame] = self._last.get(frame, ""), name
            if last.startswith(("CALL", "JUMP_BACKWARD")):
                self._point(frame)
        return self.on_opcode

    def _point(self, frame: FrameType) -> None:
        self.left -= 1
        if self.left < 0 and not self.where:
            self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
            raise KeyboardInterrupt


def interrupted(at: int, stay: Callable[[], object]) -> str:
    """Make the stay, interrupted at the point of that number; return where that was, or nothing if it ended before."""
    interrupt = Interrupt(at)
    before = sys.gettrace()
    sys.settrace(interrupt.on_call)
    try:
        stay()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return interrupt.where


def a_block() -> tuple[Bulkhead, Callable[[], object]]:
    policy = Bulkhead(1, clock=still(), listeners=[])

    def stay() -> None:
        with policy.guard():
            pass

    return policy, stay


def a_block_beside_one_who_waits() -> tuple[Bulkhead, Callable[[], object]]:
    """Somebody stands in the queue while a place is taken and given back: all of it goes through the lock."""
    policy = Bulkhead(1, queue=1, max_wait=9.0, lease=3.0, clock=still(), listeners=[])
    policy.resize(2)
    hold = policy.take()

    def stay() -> None:
        try:
            with policy.guard():
                policy._ask(policy._ticket(100.0))
        finally:
            policy.leave(hold)

    return policy, stay


def a_block_that_somebody_waits_for() -> tuple[Bulkhead, Callable[[], object]]:
    policy = Bulkhead(1, queue=1, max_wait=9.0, lease=3.0, clock=still(), listeners=[])
    ticket = policy._ticket(100.0)

    def stay() -> None:
        with policy.guard():
            policy._ask(ticket)

    return policy, stay


def a_wait() -> tuple[Bulkhead, Callable[[], object]]:
    """The place comes free while it is waited for, in the same thread: as if another one had left it."""
    policy = Bulkhead(1, queue=1, max_wait=9.0, clock=still(), listeners=[])
    hold = policy.take()

    class Wakes:
        def sleep(self, clock: Any, until: float) -> None:
            policy.leave(hold)

        def wake(self) -> bool:
            return True

    def stay() -> None:
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(waiting, "ThreadWaiter", Wakes)
                with policy.guard():
                    pass
        finally:
            policy.leave(hold)

    return policy, stay


def a_refusal() -> tuple[Bulkhead, Callable[[], object]]:
    policy = Bulkhead(1, clock=still(), listeners=[])
    hold = policy.take()

    def stay() -> None:
        try:
            with pytest.raises((BulkheadFullError, KeyboardInterrupt)), policy.guard():
                pass
        finally:
            policy.leave(hold)

    return policy, stay


def a_partition() -> tuple[Bulkhead, Callable[[], object]]:
    total = Bulkhead(1, clock=still(), listeners=[])
    family = Bulkhead(1, clock=still(), listeners=[]).per(str, at_most=1, total=total)

    def stay() -> None:
        try:
            with family.of("north").guard():
                pass
        finally:
            room = family.room("north")
            assert room is not None
            assert room.core.idle

    return total, stay


STAYS: dict[str, Callable[[], tuple[Bulkhead, Callable[[], object]]]] = {
    story.__name__: story
    for story in (a_block, a_block_beside_one_who_waits, a_block_that_somebody_waits_for, a_wait, a_refusal, a_partition)
}


@pytest.mark.parametrize("story", STAYS)
def test_no_place_is_lost_wherever_it_is_interrupted(story: str) -> None:
    at, seen = 0, set[str]()
    while True:
        policy, stay = STAYS[story]()
        where = interrupted(at, stay)
        assert not policy.core.waiting or policy.core.free <= 0, f"interrupted at {where}, somebody waits beside a free place"
        for ticket in (*policy.core.granted, *policy.core.waiting):
            policy.leave(ticket)
        assert policy.core.idle, f"interrupted at {where}: {policy.statistics()}"
        holds = [policy.take() for _ in range(policy.limit)]
        assert None not in holds, f"interrupted at {where}"
        assert policy.take() is None
        if not where:
            break
        seen.add(where)
        at += 1
    assert len(seen) > 10


@pytest.mark.parametrize(
    ("form", "story"),
    [
        (Bulkhead.take, "a_block"),
        (Bulkhead.take, "a_block_beside_one_who_waits"),
        (Bulkhead.leave, "a_block_that_somebody_waits_for"),
        (Bulkhead.enter, "a_wait"),
        (Partition.take, "a_partition"),
    ],
    ids=lambda part: getattr(part, "__qualname__", part),
)
def test_the_sweep_finds_a_way_that_does_not_clean_up_behind_an_interrupt(
    form: Callable[..., object], story: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same code, but for what it does when it is interrupted."""
    source = dedent(getsource(form)).replace("except BaseException:", "except ZeroDivisionError:")
    module, made = sys.modules[form.__module__], dict[str, Any]()
    exec(compile(source, str(module.__file__), "exec"), vars(module), made)
    monkeypatch.setattr(getattr(module, form.__qualname__.partition(".")[0]), form.__name__, made[form.__name__])
    with pytest.raises(RED):
        test_no_place_is_lost_wherever_it_is_interrupted(story)
