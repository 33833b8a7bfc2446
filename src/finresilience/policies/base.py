"""What every policy has: a name, a clock that can be swapped, listeners, and a lock that survives a fork."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from finresilience._checks import name_of, refuse
from finresilience.clock import Clock, obedient, obey
from finresilience.errors import ConfigurationError
from finresilience.events import Publisher, log_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from finresilience.events import Listener

    F = TypeVar("F", bound=Callable[..., Any])
else:
    F = TypeVar("F")  # a bound in words costs a millisecond of everybody's start, and is read by nobody

_FORK_WAIT: Final = 0.2  # seconds that a fork waits for a decision under way; decisions take microseconds


class _Chance:
    """A number in [0, 1), from a generator that loads at first use and begins anew in a forked child."""

    __slots__ = ("_random",)

    def __init__(self) -> None:
        self._random: Callable[[], float] | None = None

    def __call__(self) -> float:
        if self._random is None:
            from random import Random  # noqa: TID251 - the one generator that is nobody's seed

            self._random = Random().random
        return self._random()

    def renew(self) -> None:
        self._random = None


chance: Final = _Chance()


class Policy:
    """A name, a clock, a chance, listeners and a lock.

    Every decision is taken under the lock, which is never held across a call, an await or a listener; so one policy
    serves threads, asyncio and trio at once.
    """

    __slots__ = ("__weakref__", "_chance", "_clock", "_lock", "_now", "_own_clock", "_publish", "name")

    def __init__(
        self,
        name: str,
        *,
        clock: Clock | None = None,
        chance: Callable[[], float] = chance,
        listeners: Iterable[Listener] = (log_event,),
    ) -> None:
        self.name: str = name_of("name", name)
        if not callable(chance):
            refuse("chance", chance, "a function that returns a number in [0, 1)")
        self._chance = chance
        told = _checked(listeners)
        self._publish = _by_default if told == _by_default.listeners else Publisher(told)
        self._lock = Lock()
        self._own_clock = clock is not None
        if clock is not None:
            self._hear(_checked_clock(clock))
        obey(self)

    def told_by(self, clock: Clock, /) -> None:
        """Follow the ruling clock. Internal: clocks call it."""
        if not self._own_clock:
            self._hear(clock)

    def adopt(self, clock: Clock, /) -> None:
        """Follow the clock of the pipeline that this policy was put into, unless it was given one of its own."""
        if not self._own_clock:
            self._own_clock = True
            self._hear(clock)

    def _hear(self, clock: Clock) -> None:
        self._clock = clock
        self._now: Callable[[], float] = clock.monotonic

    def forked(self) -> None:
        """Begin anew in a forked child, where no other thread exists. Internal."""

    def __repr__(self) -> str:
        """Show the kind and the name."""
        return f"<{type(self).__name__} {self.name}>"

    def __enter__(self) -> None:
        """Refuse: a shared policy cannot hold one call's permit."""
        message = f"`with` needs a permit, not the shared {type(self).__name__}: write `with policy.guard():`"
        raise ConfigurationError(message)

    def __exit__(self, *exc: object) -> None:
        """Never reached."""


def _checked_clock(clock: Clock) -> Clock:
    if not all(callable(getattr(clock, reading, None)) for reading in ("monotonic", "utc", "sleep", "sleep_sync")):
        refuse("clock", clock, "an object with monotonic, utc, sleep and sleep_sync, see Clock")
    return clock


def _checked(listeners: Iterable[Listener]) -> tuple[Listener, ...]:
    try:
        told = tuple(listeners)
    except TypeError:
        message = f"listeners takes several, such as [log_event, yours], not one {type(listeners).__name__}"
        raise ConfigurationError(message) from None
    for listener in told:
        if not callable(listener):
            message = f"listeners must be callables that take one event, not a {type(listener).__name__}"
            raise ConfigurationError(message)
    return told


_by_default: Final = Publisher((log_event,))  # shared: nearly every policy has it
_gate = Lock()  # one fork at a time holds the locks
_held: list[Lock] = []


def _living() -> list[Policy]:
    return [subject for subject in obedient() if isinstance(subject, Policy)]


def _before_fork() -> None:
    """Let no decision be half taken in the child: hold every lock that can be had."""
    _gate.acquire(timeout=_FORK_WAIT)
    wait = _FORK_WAIT
    for policy in _living():
        lock = policy._lock
        if lock.acquire(timeout=wait):
            _held.append(lock)
        else:
            wait = 0.001  # one stuck thread is enough to wait for


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()
    if _gate.locked():
        _gate.release()


def _after_in_child() -> None:
    global _gate  # noqa: PLW0603 - the parent's lock may be held by a thread that does not exist here
    _held.clear()
    _gate = Lock()
    for policy in _living():
        policy._lock = Lock()
        policy.forked()
    chance.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
