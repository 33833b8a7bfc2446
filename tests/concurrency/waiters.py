"""Callers of one limiter in threads, an asyncio loop and a trio loop, each of which waits until the test says how the wait ends."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, final

import anyio
import trio

from finresilience import RefusedError
from finresilience.testing.clock import NEW_YEAR

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from finresilience.policies.limiter import RateLimiter

PATIENCE = 30.0  # real seconds after which a step that hangs is given up; never reached
Report = tuple[str, float]
_here: ContextVar[Waiter] = ContextVar("here")


@final
class HeldClock:
    """Time that only the test moves. Whoever sleeps says so, and sleeps until it is called or cancelled, however late that is."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> datetime:
        return NEW_YEAR

    async def sleep(self, seconds: float, /) -> None:
        waiter = _here.get()
        waiter.called = anyio.Event()
        waiter.reports.put(("waits", seconds))
        await waiter.called.wait()

    def sleep_sync(self, seconds: float, /) -> None:
        waiter = _here.get()
        waiter.reports.put(("waits", seconds))
        if waiter.box.get() == "cancel":
            raise KeyboardInterrupt


class Waiter:
    """One caller: comes, and reports whether it passed, waits, was refused or cancelled."""

    called: anyio.Event  # in a loop
    scope: anyio.CancelScope

    def __init__(self, policy: RateLimiter, deadline: float) -> None:
        self.policy, self.deadline = policy, deadline
        self.reports: SimpleQueue[Report] = SimpleQueue()
        self.box: SimpleQueue[str] = SimpleQueue()

    def report(self) -> Report:
        return self.reports.get(timeout=PATIENCE)

    def enter(self) -> None:
        _here.set(self)
        try:
            self.policy.enter(self.deadline)
            self.reports.put(("passed", 0.0))
        except RefusedError as refusal:
            self.reports.put(("refused", refusal.retry_after or 0.0))
        except KeyboardInterrupt:
            self.reports.put(("cancelled", 0.0))

    async def aenter(self) -> None:
        _here.set(self)
        with anyio.CancelScope() as self.scope:
            try:
                await self.policy.aenter(self.deadline)
                self.reports.put(("passed", 0.0))
            except RefusedError as refusal:
                self.reports.put(("refused", refusal.retry_after or 0.0))
        if self.scope.cancelled_caught:
            self.reports.put(("cancelled", 0.0))


@final
class InThreads:
    def begin(self, waiter: Waiter) -> Report:
        Thread(target=waiter.enter, daemon=True).start()
        return waiter.report()

    def end(self, waiter: Waiter, how: str) -> Report:
        waiter.box.put(how)
        return waiter.report()

    def close(self) -> None: ...


@final
class InLoop:
    """An event loop in a thread of its own."""

    def __init__(self, backend: str) -> None:
        self._posts: SimpleQueue[Callable[..., object]] = SimpleQueue()
        self._backend, self._asked = backend, list[Waiter | None]()
        self._thread = Thread(target=anyio.run, args=(self._main,), kwargs={"backend": backend}, daemon=True)
        self._thread.start()
        self._post = self._posts.get(timeout=PATIENCE)

    def begin(self, waiter: Waiter) -> Report:
        self._post(self._ask, waiter)
        return waiter.report()

    def end(self, waiter: Waiter, how: str) -> Report:
        self._post(waiter.scope.cancel if how == "cancel" else waiter.called.set)
        return waiter.report()

    def close(self) -> None:
        self._post(self._ask, None)
        self._thread.join(PATIENCE)

    async def _main(self) -> None:
        self._news = anyio.Event()
        async with anyio.create_task_group() as tasks:
            trio_here = self._backend == "trio"
            self._posts.put(
                trio.lowlevel.current_trio_token().run_sync_soon if trio_here else asyncio.get_running_loop().call_soon_threadsafe
            )
            while True:
                await self._news.wait()
                self._news = anyio.Event()
                while self._asked:
                    waiter = self._asked.pop(0)
                    if waiter is None:
                        tasks.cancel_scope.cancel()  # a mix that went wrong leaves waiters behind
                        return
                    tasks.start_soon(waiter.aenter)

    def _ask(self, waiter: Waiter | None) -> None:
        self._asked.append(waiter)
        self._news.set()


def places() -> dict[str, Any]:
    return {"thread": InThreads(), "asyncio": InLoop("asyncio"), "trio": InLoop("trio")}
