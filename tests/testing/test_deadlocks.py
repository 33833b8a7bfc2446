"""A run that can never go on is an error that says who waits where, and leaves nothing behind."""

from __future__ import annotations

import gc
import socket
import sys
import threading
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio
from anyio import to_thread

from finresilience.clock import ruling_clock
from finresilience.testing import DeadlockError, VirtualClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


async def waits_for_ever() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.Event().wait, name="the other one")
        await anyio.Event().wait()


@both
def test_a_deadlock_is_an_error_that_says_who_waits_where(backend: Any) -> None:
    with pytest.raises(DeadlockError) as caught:
        run_virtual(waits_for_ever, backend=backend)
    told = str(caught.value)
    assert "test_deadlocks.py" in told
    assert "(waits_for_ever)" in told
    assert "the other one" in told
    assert "hold()" in told


@both
@pytest.mark.parametrize(
    "sleep", [anyio.sleep_forever, lambda: anyio.sleep(inf), lambda: ruling_clock().sleep(inf)], ids=["bare", "anyio", "clock"]
)
def test_sleeping_for_ever_is_a_deadlock(backend: Any, sleep: Any) -> None:
    with pytest.raises(DeadlockError):
        run_virtual(sleep, backend=backend)


@both
def test_a_deadlock_unwinds_what_it_stopped(backend: Any) -> None:
    ended: list[float] = []

    async def scenario() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)
            ended.append(VirtualClock.current().monotonic())

    with pytest.raises(DeadlockError):
        run_virtual(scenario, backend=backend)
    assert ended == [3.0]


async def shielded_for_ever() -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep_forever()


async def shielded_in_a_shield() -> None:
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as group:
            group.start_soon(shielded_for_ever)
            group.start_soon(shielded_for_ever)
            await shielded_for_ever()


async def shielded_once_more() -> None:
    try:
        await shielded_for_ever()
    finally:
        await shielded_for_ever()


@both
@pytest.mark.parametrize("scenario", [shielded_for_ever, shielded_in_a_shield, shielded_once_more], ids=["one", "nested", "again"])
def test_a_deadlock_behind_shields_ends_and_leaves_nothing_unclosed(backend: Any, scenario: Any) -> None:
    with pytest.raises(DeadlockError, match="virtual time stands still"):
        run_virtual(scenario, backend=backend)
    gc.collect()  # what is left unclosed would complain now


@both
def test_a_worker_that_never_ends_is_left_behind(backend: Any) -> None:
    gate = threading.Event()

    async def work() -> None:
        try:
            await to_thread.run_sync(gate.wait)
        finally:
            gate.set()  # only now: a result that comes late must find nobody

    async def scenario() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            group.start_soon(work)
            with anyio.CancelScope(shield=True):
                await work()
            await anyio.sleep(3)

    with pytest.raises(DeadlockError, match="3 held pieces of work brought no news"):
        run_virtual(scenario, backend=backend, patience=0.05)
    gc.collect()


def test_a_wait_of_trio_that_refuses_to_be_aborted_ends_too() -> None:
    async def scenario() -> None:
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    with pytest.raises(DeadlockError, match=r"\(scenario\)"):
        run_virtual(scenario, backend="trio")
    gc.collect()


@both
def test_a_task_that_will_not_end_is_given_up(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stubborn() -> None:
        while not told:
            with suppress(BaseException):
                await shielded_for_ever()

    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)  # here something must be left unclosed
    with pytest.raises(DeadlockError, match="stubborn"):
        run_virtual(stubborn, backend=backend)
    told.append("end")
    gc.collect()


def test_a_task_of_trios_own_that_will_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        trio.lowlevel.spawn_system_task(shielded_for_ever)

    monkeypatch.setattr(sys, "unraisablehook", list[object]().append)
    with pytest.raises(DeadlockError, match="virtual time stands still"):
        run_virtual(scenario, backend="trio")
    gc.collect()


class Handmade:
    """An awaitable whose coroutine only the garbage collector can see."""

    def __await__(self) -> Generator[Any, Any, None]:
        return anyio.Event().wait().__await__()


async def numbers() -> AsyncGenerator[int]:
    yield 1
    await Handmade()


async def adds() -> int:
    return sum([number async for number in numbers()])


@both
def test_it_is_told_where_in_an_async_generator_one_waits(backend: Any) -> None:
    with pytest.raises(DeadlockError, match=r"adds at test_deadlocks.py:\d+ \(numbers\)"):
        run_virtual(adds, backend=backend)


@both
def test_a_crowd_is_told_by_its_first_five(backend: Any) -> None:
    async def crowd() -> None:
        async with anyio.create_task_group() as group:
            for number in range(9):
                group.start_soon(anyio.sleep_forever, name=f"n{number}")

    with pytest.raises(DeadlockError) as caught:
        run_virtual(crowd, backend=backend)
    assert caught.match("crowd at .*; n0 at .*; n3 at .* and 5 more")
    assert "n4" not in str(caught.value)


@both
def test_after_a_deadlock_all_is_as_before(backend: Any) -> None:
    before = ruling_clock()
    for _ in range(3):
        with pytest.raises(DeadlockError):
            run_virtual(anyio.sleep_forever, backend=backend)
    assert ruling_clock() is before
    assert run_virtual(anyio.sleep, 1, backend=backend) is None


@both
def test_a_socket_that_nobody_writes_to_is_a_deadlock_once_patience_ends(backend: Any) -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            await anyio.wait_readable(left)

    with pytest.raises(DeadlockError, match="no socket"):
        run_virtual(scenario, backend=backend, patience=0.05)


@both
def test_a_socket_that_a_thread_writes_to_is_waited_for(backend: Any) -> None:
    async def scenario() -> bytes:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            threading.Thread(target=right.sendall, args=(b"news",)).start()
            await anyio.wait_readable(left)
            return left.recv(10)

    assert run_virtual(scenario, backend=backend) == b"news"


@both
def test_a_conversation_over_sockets_in_one_loop_needs_no_hold(backend: Any) -> None:
    async def scenario() -> float:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)

            async def echo() -> None:
                for _ in range(200):
                    await anyio.wait_readable(right)
                    right.send(right.recv(10))

            async with anyio.create_task_group() as group:
                group.start_soon(echo)
                for _ in range(200):
                    with anyio.fail_after(1):
                        left.send(b"ping")
                        await anyio.wait_readable(left)
                        left.recv(10)
        return ruling_clock().monotonic()

    assert run_virtual(scenario, backend=backend) == 0.0
