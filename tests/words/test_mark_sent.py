"""From `mark_sent()` on the provider may have seen it, and no block or call around it may come to think otherwise."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from threading import Thread
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, strategies as st

from finresilience import (
    AttemptOverError,
    Constant,
    Effect,
    Failed,
    Pipeline,
    Retry,
    Timeout,
    Unknown,
    attempt_budget,
    deadline,
    idempotency_key,
    mark_sent,
)
from finresilience.context import CallContext, current
from tests.laws.worlds import RULES, Lost, both_loops, on

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience import Outcome

BLOCKS: dict[str, Callable[[], Any]] = {
    "nothing": nullcontext,
    "deadline": lambda: deadline(5),
    "key": lambda: idempotency_key("pay_1"),
    "budget": lambda: attempt_budget(9),
}


def marking(name: str, **more: Any) -> Pipeline:
    settings: dict[str, Any] = {"classify": RULES, "listeners": [], "marks_sent": True}
    return Pipeline(name, Retry(attempts=more.pop("attempts", 3), backoff=Constant(0)), **settings | more)


class Wire:
    """A connection that is lost, before or after the request was written; it counts how often it was written."""

    def __init__(self, *blocks: str, mark: Callable[[], None] = mark_sent) -> None:
        self.tries = self.written = 0
        self._blocks = [BLOCKS[block] for block in blocks]
        self._mark = mark

    def breaks_before(self) -> None:
        self.tries += 1
        with ExitStack() as stack:
            for block in self._blocks:
                stack.enter_context(block())
            raise Lost

    def breaks_after(self) -> None:
        self.tries += 1
        with ExitStack() as stack:
            for block in self._blocks:
                stack.enter_context(block())
            self._mark()
            self.written += 1
        raise Lost


def law_what_was_written_is_not_written_again(wire: Wire, outcome: Outcome[None]) -> None:
    assert isinstance(outcome, Unknown)
    assert (wire.tries, wire.written) == (1, 1)


@given(st.lists(st.sampled_from(sorted(BLOCKS)), max_size=5))
def test_what_was_marked_inside_any_blocks_is_not_sent_again(blocks: list[str]) -> None:
    wire = Wire(*blocks)
    law_what_was_written_is_not_written_again(wire, marking("acme").outcome(wire.breaks_after))


def mark_the_innermost() -> None:
    """The saboteur: the innermost block is marked, and forgotten when it ends."""
    context = current.get()
    if context is not None:
        context.sent = True


@pytest.mark.parametrize("block", ["deadline", "key", "budget"])
def test_the_law_catches_a_mark_on_the_innermost_block_only(block: str) -> None:
    wire = Wire(block, mark=mark_the_innermost)
    with pytest.raises(AssertionError):
        law_what_was_written_is_not_written_again(wire, marking("acme").outcome(wire.breaks_after))


@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_what_was_not_marked_is_known_not_to_have_been_applied(block: str) -> None:
    wire = Wire(block)
    assert isinstance(marking("acme").outcome(wire.breaks_before), Failed)
    assert (wire.tries, wire.written) == (3, 0)


# ---------------------------------------------------------------- calls inside calls

INNER: dict[str, Callable[[], Pipeline]] = {
    "once": lambda: Pipeline("inner", Retry(attempts=1), classify=RULES, listeners=[]),
    "with a deadline": lambda: Pipeline("inner", Timeout(5), classify=RULES, listeners=[], deadline=9),
    "marking": lambda: marking("inner"),
    "a read": lambda: Pipeline(
        "inner", Retry(attempts=2, backoff=Constant(0)), classify=RULES, listeners=[], effect=Effect.READ, deadline=9
    ),
}


@pytest.mark.parametrize("inner", sorted(INNER))
def test_what_a_call_inside_has_sent_the_call_outside_has_sent(inner: str) -> None:
    wire, within = Wire("deadline"), INNER[inner]()
    outer = marking("outer")
    assert isinstance(outer.outcome(lambda: within.call(wire.breaks_after)), Unknown)
    assert wire.tries == (2 if inner == "a read" else 1)  # the inner one's own affair


def test_what_nobody_knows_further_in_is_not_known_outside_for_want_of_a_mark() -> None:
    """The guard inside knows of no marks, so to it the call may have been applied; the one outside must not know better."""
    wire, within = Wire(), Pipeline("inner", Retry(attempts=1), classify=RULES, listeners=[])
    assert isinstance(marking("outer").outcome(lambda: within.call(wire.breaks_before)), Unknown)
    assert wire.tries == 1


@both_loops
def test_what_a_task_inside_has_sent_the_call_has_sent(backend: str) -> None:
    wire = Wire("deadline")

    async def charge() -> None:
        async def post() -> None:
            with pytest.raises(Lost):
                wire.breaks_after()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(post)
        raise Lost

    async def world() -> Outcome[None]:
        return await marking("acme").aoutcome(charge)

    law_what_was_written_is_not_written_again(wire, on(backend, world))


def test_what_a_thread_inside_has_sent_the_call_has_sent_if_it_was_given_the_context() -> None:
    from contextvars import copy_context

    wire = Wire()

    def post() -> None:
        with pytest.raises(Lost):
            wire.breaks_after()

    def charge() -> None:
        thread = Thread(target=copy_context().run, args=(post,))
        thread.start()
        thread.join()
        raise Lost

    law_what_was_written_is_not_written_again(wire, marking("acme").outcome(charge))


# ---------------------------------------------------------------- what a mark does not reach


def test_a_mark_reaches_outwards_only() -> None:
    outer, inner, beside = (CallContext(None, clock=_NO_CLOCK) for _ in range(3))
    inner.inherit(outer)
    beside.inherit(outer)
    token = current.set(inner)
    try:
        mark_sent()
    finally:
        current.reset(token)
    assert (outer.sent, inner.sent, beside.sent) == (True, True, False)


def test_a_leftover_of_one_attempt_does_not_mark_the_next() -> None:
    """A task of the first attempt that comes to its senses in the second speaks for the first."""
    kept: list[CallContext | None] = []
    marks: list[bool] = []

    def charge() -> None:
        kept.append(current.get())
        if len(kept) == 2:
            token = current.set(kept[0])
            with pytest.raises(AttemptOverError):  # it was given up: it must not send any more
                mark_sent()
            current.reset(token)
            second = kept[1]
            assert second is not None
            marks.append(second.sent)
        raise Lost

    assert isinstance(marking("acme").outcome(charge), Failed)
    assert (len(kept), marks) == (3, [False])


_NO_CLOCK: Any = None  # a mark needs none
