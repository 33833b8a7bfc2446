"""Where a call may run: in a thread, an asyncio loop or a trio loop. Each begins and ends a call when it is told to."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol, final

import anyio
import trio

from finresilience import CircuitBreaker, CircuitOpenError
from tests.laws.worlds import Down, No

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 30.0  # real seconds after which a step that hangs is given up; never reached
ERRORS: dict[str, type[Exception]] = {"down": Down, "no": No, "typo": TypeError}
ENDS = ("ok", "ok", "down", "down", "no", "typo", "cancel")


class Runner(Protocol):
    """Begins and ends calls. `begin` returns True once the call is inside, False if it was refused."""

    def begin(self, policy: CircuitBreaker, form: str) -> tuple[bool, Any]: ...

    def end(self, call: Any, how: str) -> str: ...

    def close(self) -> None: ...


def named(error: BaseException) -> str:
    return next((name for name, kind in ERRORS.items() if isinstance(error, kind)), repr(error))


@final
class Threads:
    """A few threads, each of which makes one call at a time."""

    def __init__(self, many: int) -> None:
        self._reports: SimpleQueue[Any] = SimpleQueue()
        self._boxes: list[SimpleQueue[Any]] = [SimpleQueue() for _ in range(many)]
        self._free = list(self._boxes)
        self._threads = [Thread(target=self._serve, args=(box,), daemon=True) for box in self._boxes]
        for thread in self._threads:
            thread.start()

    @property
    def full(self) -> bool:
        return not self._free

    def begin(self, policy: CircuitBreaker, form: str) -> tuple[bool, Any]:
        box = self._free.pop()
        box.put((policy, form))
        inside = self._reports.get(timeout=PATIENCE) == "inside"
        if not inside:
            self._free.append(box)
        return inside, box

    def end(self, call: Any, how: str) -> str:
        call.put(how)
        report: str = self._reports.get(timeout=PATIENCE)
        self._free.append(call)
        return report

    def close(self) -> None:
        for box in self._boxes * 2:  # one ends the call that a mix gone wrong left inside, one the thread
            box.put(None)
        for thread in self._threads:
            thread.join(PATIENCE)

    def _serve(self, box: SimpleQueue[Any]) -> None:
        def work() -> None:
            self._reports.put("inside")
            how = box.get()
            if how in {"cancel", None}:
                raise KeyboardInterrupt
            if how != "ok":
                raise ERRORS[how]

        while (job := box.get()) is not None:
            policy, form = job
            try:
                self._call(policy, form, work)
                report = "ok"
            except CircuitOpenError:
                report = "refused"
            except KeyboardInterrupt:
                report = "cancel"
            except BaseException as error:
                report = named(error)
            self._reports.put(report)

    def _call(self, policy: CircuitBreaker, form: str, work: Callable[[], None]) -> None:
        if form == "guard":
            with policy.guard():
                work()
        elif form == "outcome":
            policy.outcome(work).unwrap()
        else:
            policy(work)()


@final
class _Task:
    """One call in a loop."""

    def __init__(self) -> None:
        self.scope, self.told = anyio.CancelScope(), anyio.Event()
        self.how = "ok"


@final
class Loop:
    """An event loop in a thread of its own, of which every step is asked for from outside."""

    full = False

    def __init__(self, backend: str) -> None:
        self._reports: SimpleQueue[Any] = SimpleQueue()
        self._job: tuple[CircuitBreaker, str] | None = None
        self._thread = Thread(target=anyio.run, args=(self._main,), kwargs={"backend": backend}, daemon=True)
        self._backend = backend
        self._thread.start()
        self._post: Callable[..., object] = self._reports.get(timeout=PATIENCE)

    def begin(self, policy: CircuitBreaker, form: str) -> tuple[bool, Any]:
        self._post(self._ask, (policy, form))
        inside, task = self._reports.get(timeout=PATIENCE)
        return inside == "inside", task

    def end(self, call: Any, how: str) -> str:
        call.how = how
        self._post(call.scope.cancel if how == "cancel" else call.told.set)
        report: str = self._reports.get(timeout=PATIENCE)[0]
        return report

    def close(self) -> None:
        self._post(self._ask, None)
        self._thread.join(PATIENCE)

    async def _main(self) -> None:
        self._asked = anyio.Event()
        async with anyio.create_task_group() as tasks:
            if self._backend == "trio":
                self._reports.put(trio.lowlevel.current_trio_token().run_sync_soon)
            else:
                self._reports.put(asyncio.get_running_loop().call_soon_threadsafe)
            while True:
                await self._asked.wait()
                self._asked = anyio.Event()
                if self._job is None:
                    tasks.cancel_scope.cancel()  # a mix that went wrong leaves calls inside
                    return
                policy, form = self._job
                tasks.start_soon(self._serve, policy, form)

    def _ask(self, job: tuple[CircuitBreaker, str] | None) -> None:
        self._job = job
        self._asked.set()

    async def _serve(self, policy: CircuitBreaker, form: str) -> None:
        task = _Task()

        async def work() -> None:
            self._reports.put(("inside", task))
            await task.told.wait()
            if task.how != "ok":
                raise ERRORS[task.how]

        report = "cancel"
        with task.scope:
            try:
                await self._call(policy, form, work)
                report = "ok"
            except CircuitOpenError:
                report = "refused"
            except Exception as error:
                report = named(error)
        self._reports.put((report, task))

    async def _call(self, policy: CircuitBreaker, form: str, work: Callable[[], Any]) -> None:
        if form == "guard":
            async with policy.guard():
                await work()
        elif form == "outcome":
            (await policy.aoutcome(work)).unwrap()
        else:
            await policy(work)()


@final
class Runners:
    """All three at once, until the end of the block."""

    def __init__(self) -> None:
        self.all: dict[str, Threads | Loop] = {"thread": Threads(4), "asyncio": Loop("asyncio"), "trio": Loop("trio")}

    def __enter__(self) -> dict[str, Threads | Loop]:
        return self.all

    def __exit__(self, *_: object) -> None:
        for runner in self.all.values():
            with suppress(Exception):
                runner.close()
