"""Who runs a law? Nobody, by hand; an event loop; an explorer; or real threads and tasks that start together."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar, cast

from finresilience.errors import ConfigurationError
from finresilience.testing.seeded import explore
from finresilience.testing.threads import explore_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    Caller = Callable[[], Coroutine[Any, Any, object]]
    World = Callable[[], Coroutine[Any, Any, tuple[Sequence[Caller], Caller, Caller]]]  # callers, check, and what closes the store

T = TypeVar("T")


def by_hand(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that never waits: everything it awaits is sync underneath."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    message = (
        "a sync store was asked, and something awaited an event loop. Let make_store, transaction, advance and close_store be as "
        "sync as the store, or, for an async store, let make_store be `async def`"
    )
    raise ConfigurationError(message)


def sync_modules(store: type[object]) -> list[Any]:
    """Return the modules that a store is written in, so that threads may be stopped between any two of their lines."""
    homes = (sys.modules.get(one.__module__) for one in store.__mro__ if one is not object)
    return [home for home in dict.fromkeys(homes) if home is not None and getattr(home, "__file__", None)]


def explored(world: World, backends: Sequence[str], schedules: int | Sequence[int], modules: list[Any]) -> None:
    """Run a race on many schedules, the same ones every time."""
    if not backends:
        left: list[Caller] = []  # the explorer runs no check, and so closes nothing, where a caller raises

        def close() -> None:
            while left:
                by_hand(left.pop()())

        def threads() -> tuple[list[Callable[[], object]], Callable[[], object]]:
            close()
            callers, check, end = by_hand(world())
            left.append(end)
            return [_in_thread(caller) for caller in callers], lambda: by_hand(check())

        try:
            explore_threads(threads, seeds=schedules, modules=modules)
        finally:
            close()
        return

    async def tasks() -> None:
        await _together(world)

    for backend in backends:
        explore(tasks, seeds=schedules, backend=cast("Any", backend))


def raced(world: World, backends: Sequence[str], rounds: int) -> None:
    """Run a race a few times on real threads, or on real tasks."""
    import anyio

    async def tasks() -> None:
        await _together(world)

    for _ in range(rounds):
        if not backends:
            _threads_together(world)
        for backend in backends:
            anyio.run(tasks, backend=backend)


async def _together(world: World) -> None:
    from anyio import create_task_group

    callers, check, close = await world()
    try:
        async with create_task_group() as group:
            for caller in callers:
                group.start_soon(caller)
        await check()
    finally:
        await close()


def _threads_together(world: World) -> None:
    callers, check, close = by_hand(world())
    start, failures = threading.Barrier(len(callers)), list[BaseException]()

    def body(caller: Caller) -> None:
        try:
            start.wait()
            by_hand(caller())
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=body, args=(caller,), daemon=True) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        if failures:
            raise failures[0]
        by_hand(check())
    finally:
        by_hand(close())


def _in_thread(caller: Caller) -> Callable[[], object]:
    def body() -> object:
        return by_hand(caller())

    return body
