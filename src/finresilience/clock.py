"""What time is it? Told by a clock that can be swapped, never taken from the machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, final
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


class Clock(Protocol):
    """Two readings of one time, and two ways to wait for it.

    `monotonic` never steps and is the only reading that decisions use. `utc` is for people and for HTTP dates.
    """

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never go back."""
        ...

    def utc(self) -> datetime:
        """Return the aware UTC time."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Return once `seconds` have passed, or raise what cancelled the wait."""
        ...

    def sleep_sync(self, seconds: float, /) -> None:
        """Block this thread until `seconds` have passed."""
        ...


@final
class SystemClock:
    """The machine's own time."""

    __slots__ = ("__weakref__",)

    monotonic: staticmethod[[], float] = staticmethod(time.monotonic)  # the builtin itself: a wrapper would cost as much as the reading

    def utc(self) -> datetime:
        """Return the aware UTC time."""
        from datetime import UTC, datetime

        return datetime.now(UTC)

    async def sleep(self, seconds: float, /) -> None:
        """Return once `seconds` have passed."""
        from anyio import sleep

        await sleep(seconds)

    def sleep_sync(self, seconds: float, /) -> None:
        """Block this thread until `seconds` have passed."""
        time.sleep(seconds)


class _Governed(Protocol):
    def told_by(self, clock: Clock, /) -> None: ...


_system = SystemClock()
_ruling: list[Clock] = [_system]  # the last one rules; the system clock stays at the bottom
# A dict and not a WeakSet: its keys are listed in one step, whatever other threads add meanwhile.
_governed: dict[ref[_Governed], None] = {}


def ruling_clock() -> Clock:
    """Return the clock that rules objects which were given none of their own."""
    return _ruling[-1]


def obey(subject: _Governed) -> None:
    """Let the ruling clock, now and whenever it changes, tell `subject` the time.

    This is how policies made at import time follow a test's clock without looking one up on every call.
    """
    _governed[ref(subject, _forget)] = None
    subject.told_by(_ruling[-1])


def obedient() -> list[_Governed]:
    """Return everything that obeys the ruling clock and is still alive."""
    return [subject for known in list(_governed) if (subject := known()) is not None]


def _forget(gone: ref[_Governed]) -> None:
    _governed.pop(gone, None)


def install(clock: Clock) -> Callable[[], None]:
    """Make `clock` rule until the returned function is called. For tests; not for running services."""
    _ruling.append(clock)
    _tell_all()
    ours = [clock]

    def uninstall() -> None:
        if ours:  # once: a second time would take away somebody else's
            _ruling.remove(ours.pop())
            _tell_all()

    return uninstall


def _tell_all() -> None:
    for subject in obedient():
        subject.told_by(_ruling[-1])
