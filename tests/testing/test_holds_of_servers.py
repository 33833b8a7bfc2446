"""A database on a real socket: its answer holds virtual time, for as long as the run's patience with real sockets lasts.

No server is needed to prove it: what counts is who makes a future, or watches a descriptor. So two drivers stand in, each a module by
the name of the real one, whose server is a thread at the other end of a socket pair.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import asynccontextmanager, closing, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience.clock import ruling_clock
from finresilience.testing import DeadlockError, on_asyncio, run_virtual

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

STREAMING = '''
import asyncio

class Answer(asyncio.Protocol):
    """Sends a question by a transport, and hands out a future for the answer."""

    def connection_made(self, transport):
        self.transport = transport

    def ask(self, loop):
        self.future = loop.create_future()
        self.transport.write(b"?")
        return self.future

    def data_received(self, data):
        if not self.future.done():
            self.future.set_result(data)
'''

WATCHING = """
import asyncio

async def ask(sock):
    loop, come = asyncio.get_running_loop(), asyncio.Event()
    sock.send(b"?")
    loop.add_reader(sock.fileno(), come.set)
    try:
        await come.wait()
    finally:
        loop.remove_reader(sock.fileno())
    return sock.recv(1)
"""


def driver(name: str, source: str) -> Any:
    module = ModuleType(name)
    exec(source, vars(module))
    return module


def toil() -> int:
    """Work for long enough that every other thread gets its turn meanwhile."""
    return max(sum(range(20_000)) for _ in range(25))


def serve(there: socket.socket, may: threading.Event) -> None:
    """Answer each question, after some work and once it may."""
    with there, suppress(OSError):  # whoever asked may be gone
        while there.recv(1):
            toil()
            may.wait()
            there.send(b"!")


class Served:
    """A socket to a server that is a thread; the server answers at once unless told to wait."""

    def __init__(self) -> None:
        self.here, there = socket.socketpair()
        self.here.setblocking(False)
        self.may = threading.Event()
        self.may.set()
        self._thread = threading.Thread(target=serve, args=(there, self.may))
        self._thread.start()

    def close(self) -> None:
        self.may.set()
        self.here.close()
        self._thread.join()


@asynccontextmanager
async def asked_by_a_future(served: Served, name: str = "asyncpg.connection") -> AsyncGenerator[Any]:
    """Yield what asks the server as asyncpg does."""
    loop = asyncio.get_running_loop()
    transport, answer = await loop.create_connection(driver(name, STREAMING).Answer, sock=served.here)
    try:
        yield lambda: answer.ask(loop)
    finally:
        transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def asked_by_a_descriptor(served: Served, name: str = "psycopg.waiting") -> AsyncGenerator[Any]:
    """Yield what asks the server as psycopg does."""
    yield lambda: driver(name, WATCHING).ask(served.here)


ways = pytest.mark.parametrize("way", [asked_by_a_future, asked_by_a_descriptor], ids=["asyncpg", "psycopg"])


def answers_are_in_time(way: Any) -> None:
    async def scenario() -> float:
        async with way(served) as ask:
            for _ in range(20):
                with anyio.fail_after(1):
                    assert await ask() == b"!"
            return ruling_clock().monotonic()

    with closing(Served()) as served:
        assert run_virtual(scenario) == 0.0


@ways
def test_the_answer_of_a_server_meets_no_false_timeout(way: Any) -> None:
    answers_are_in_time(way)


@ways
def test_between_two_questions_time_jumps_as_ever(way: Any) -> None:
    async def scenario() -> float:
        async with way(served) as ask:
            for _ in range(5):
                assert await ask() == b"!"
                await asyncio.sleep(60)
            return ruling_clock().monotonic()

    with closing(Served()) as served:
        assert run_virtual(scenario) == 300.0


@ways
def test_a_server_that_is_silent_all_our_patience_holds_no_more(way: Any) -> None:
    """It may wait for a lock that only later work of this run gives back."""

    async def scenario() -> float:
        async with way(served) as ask:
            served.may.clear()

            async def give_back() -> None:
                await asyncio.sleep(60)
                served.may.set()

            async with asyncio.TaskGroup() as group:
                group.create_task(give_back())
                assert await ask() == b"!"
            return ruling_clock().monotonic()

    with closing(Served()) as served:
        assert run_virtual(scenario, patience=0.05) == 60.0


@ways
def test_and_then_its_caller_gives_up_at_its_very_time(way: Any) -> None:
    async def scenario() -> tuple[bool, float]:
        async with way(served) as ask:
            served.may.clear()
            with anyio.move_on_after(3) as scope:
                await ask()
            return scope.cancelled_caught, ruling_clock().monotonic()

    with closing(Served()) as served:
        assert run_virtual(scenario, patience=0.05) == (True, 3.0)


@ways
def test_without_a_limit_it_is_a_deadlock(way: Any) -> None:
    async def scenario() -> None:
        async with way(served) as ask:
            served.may.clear()
            await ask()

    with closing(Served()) as served, pytest.raises(DeadlockError, match="no socket brought any news"):
        run_virtual(scenario, patience=0.02)


def test_a_socket_of_somebody_else_holds_nothing() -> None:
    """Nobody can see whether it waits for an answer: such a caller asks for `hold()`."""

    async def scenario() -> float:
        async with asked_by_a_future(served, "some.other.driver"):
            await asyncio.sleep(60)
        return ruling_clock().monotonic()

    with closing(Served()) as served:
        assert run_virtual(scenario) == 60.0


# ---------------------------------------------------------------- the saboteur


def nothing(_frame: object) -> bool:
    return False


@ways
def test_a_loop_that_knows_no_server_is_caught(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_asyncio, "answered_by_a_server", nothing)
    with pytest.raises(TimeoutError):
        answers_are_in_time(way)
