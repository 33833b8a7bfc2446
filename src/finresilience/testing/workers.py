"""How does virtual time see a worker thread? As a hold, from the moment it gets the work until its task has the result.

anyio on asyncio hands work to threads without telling the loop, so two methods of its backend are wrapped while a run
lasts. trio counts its threads itself; only the way back into its loop, `trio.from_thread.run`, is wrapped.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from finresilience.testing.errands import Errand, errand_here, this_thread
from finresilience.testing.virtual import running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from finresilience.testing.errands import Hold

T = TypeVar("T")

_lock: Final = Lock()
_users: Final[dict[str, int]] = {}  # runs in several threads may overlap: the first wraps, the last unwraps
_originals: Final[dict[str, list[tuple[Any, str, Any]]]] = {}


@contextmanager
def held_workers(backend: str) -> Generator[None]:
    """Let worker threads hold the virtual time of the loop that sent them, as long as this block lasts."""
    with _lock:
        _users[backend] = _users.get(backend, 0) + 1
        if _users[backend] == 1:
            _originals[backend] = _wrap_asyncio() if backend == "asyncio" else _wrap_trio()
    try:
        yield
    finally:
        with _lock:
            _users[backend] -= 1
            if not _users[backend]:
                for owner, name, original in _originals.pop(backend):
                    setattr(owner, name, original)


def _wrap_asyncio() -> list[tuple[Any, str, Any]]:
    from anyio._backends._asyncio import AsyncIOBackend as Backend

    work_in_thread: Callable[..., Awaitable[Any]] = Backend.run_sync_in_worker_thread
    run_from_thread: Callable[..., Any] = Backend.run_async_from_thread

    async def run_sync_in_worker_thread(
        cls: Any, func: Callable[..., Any], args: tuple[Any, ...], abandon_on_cancel: Any = None, limiter: Any = None
    ) -> Any:
        clock = running.clock
        if clock is None:
            return await work_in_thread(func, args, abandon_on_cancel=bool(abandon_on_cancel), limiter=limiter)
        hold = clock.hold()
        errand = Errand(clock, hold.is_taken)
        gate: Any = _Gate(limiter or cls.current_default_thread_limiter(), hold)
        try:
            return await work_in_thread(on_errand, (errand, func, *args), abandon_on_cancel=bool(abandon_on_cancel), limiter=gate)
        finally:
            hold.release()  # abandoned work is waited for by nobody, so it holds nothing

    def run_async_from_thread(_cls: Any, func: Callable[..., Any], args: Any, token: Any) -> Any:
        return run_from_thread(_lent(func), args, token)

    return _replace(
        Backend,
        run_sync_in_worker_thread=classmethod(run_sync_in_worker_thread),
        run_async_from_thread=classmethod(run_async_from_thread),
    )


def _wrap_trio() -> list[tuple[Any, str, Any]]:
    import trio

    run_from_thread: Callable[..., Any] = trio.from_thread.run

    def run(afn: Callable[..., Any], *args: Any, trio_token: Any = None) -> Any:
        return run_from_thread(_lent(afn), *args, trio_token=trio_token)

    return _replace(trio.from_thread, run=run)


def _replace(owner: Any, **wrappers: Any) -> list[tuple[Any, str, Any]]:
    originals: list[tuple[Any, str, Any]] = [(owner, name, vars(owner)[name]) for name in wrappers]
    for name, wrapper in wrappers.items():
        setattr(owner, name, wrapper)
    return originals


def on_errand(errand: Errand, func: Callable[..., T], *args: Any) -> T:
    """Run `func` in a thread that does `errand`."""
    outer, this_thread.errand = this_thread.errand, errand
    try:
        return func(*args)
    finally:
        this_thread.errand = outer


def _lent(func: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Give a worker's hold back for as long as the loop works for that worker, which waits.

    Both changes happen inside the loop, so that no jump fits in between.
    """
    errand = errand_here()
    if errand is None:
        return func

    async def work(*args: Any) -> Any:
        if running.clock is not errand.clock:  # the loop of somebody else
            return await func(*args)
        with errand.clock.lent(errand):
            return await func(*args)

    return work


@final
class _Gate:
    """A limiter that takes the hold once it has let the work through: to queue for a thread is not to be at work."""

    __slots__ = ("_hold", "_limiter")

    def __init__(self, limiter: Any, hold: Hold) -> None:
        self._limiter = limiter
        self._hold = hold

    async def __aenter__(self) -> None:
        await self._limiter.__aenter__()
        self._hold.take()

    async def __aexit__(self, *error: object) -> Any:
        self._hold.release()
        return await self._limiter.__aexit__(*error)
