"""Who waits for the real clock? No unit test may: it is watched at the places where a sleep ends up, whoever asked for it.

Watched are `time.sleep`, where our own code or a test calls it, and the moment in which a real event loop of asyncio or trio has waited
until a timer, and for nothing else. A loop that is woken by a thread or a socket before its timer has not slept. A virtual loop never
comes to such a moment.
"""

from __future__ import annotations

import select
import selectors
import sys
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

LEAST: Final = 0.0011  # seconds; a task that waits on a clock moved by hand glances at it this often, and so does a thread
_ROOT: Final = str(Path(__file__).parent.parent) + "/"
_OURS: Final = (_ROOT + "src/", _ROOT + "tests/", _ROOT + "examples/", _ROOT + "benchmarks/")

seen: Final[list[str]] = []
watched: Final = Event()  # set while a test runs that may not wait


def took(what: str, seconds: float) -> None:
    """Note that somebody waited for the real clock."""
    seen.append(f"{what} for {seconds:.3g} s")


def _sleep(seconds: float) -> None:
    caller = sys._getframe(1).f_code
    if seconds > 0 and watched.is_set() and caller.co_filename.startswith(_OURS):
        what = f"time.sleep in {caller.co_filename.removeprefix(_ROOT)} ({caller.co_name})"
        took(what, seconds)  # told at the end too, for whoever catches this
        message = f"{what} waits for the real clock: use ManualClock, instant() or run_virtual (finresilience.testing)"
        raise AssertionError(message)
    real_sleep(seconds)


def _select(selector: Any, timeout: float | None = None) -> Any:
    events = real_select(selector, timeout)
    if not events and timeout is not None and timeout > LEAST and sys._getframe(1).f_code.co_name == "_run_once":
        took("a timer of a real asyncio loop", timeout)
    return events


class _Poll:
    """An epoll as trio uses it: told the timeout, in its own thread."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self._real = real_epoll(*args, **more)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> Any:
        events = self._real.poll(timeout, maxevents)
        if not events and timeout is not None and timeout > LEAST and _on_the_real_clock_of_trio():
            took("a timer of a real trio run", timeout)
        return events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _on_the_real_clock_of_trio() -> bool:
    trio: Any = sys.modules.get("trio")
    return bool(trio and trio.lowlevel.in_trio_run() and type(trio.lowlevel.current_clock()).__name__ == "SystemClock")


real_sleep: Final = time.sleep
real_select: Final[Callable[[Any, float | None], Any]] = selectors.DefaultSelector.select
real_epoll: Final[Any] = getattr(select, "epoll", None)


def watch() -> Callable[[], None]:
    """Watch from now on, in every thread, until the returned function is called."""
    of_trio: Any = import_module("trio._core._io_epoll") if real_epoll else None
    owner: Any = selectors.DefaultSelector
    of_time: Any = time
    of_time.sleep = _sleep
    owner.select = _select
    if of_trio:
        of_trio.select = _Select()

    def stop() -> None:
        of_time.sleep = real_sleep
        owner.select = real_select
        if of_trio:
            of_trio.select = select

    return stop


class _Select:
    """The module `select`, as trio sees it."""

    epoll = _Poll

    def __getattr__(self, name: str) -> Any:
        return getattr(select, name)


@contextmanager
def nobody_waits() -> Generator[None]:
    """Raise at the end of the block if anybody waited for the real clock in it."""
    seen.clear()
    before = watched.is_set()
    watched.set()
    try:
        yield
    finally:
        if not before:
            watched.clear()
    waited, seen[:] = list(seen), []
    assert not waited, f"waited for the real clock: {'; '.join(waited)}. Use ManualClock, instant() or run_virtual"
