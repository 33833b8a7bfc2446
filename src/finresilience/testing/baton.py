"""Which thread runs? The one that holds the baton; a seed says when it is handed over, and to whom.

Locks made while a scenario is built and run are cooperative: a thread that finds one taken gives the baton away instead of
blocking with it, so that no exploration hangs on a lock whose owner is parked.
"""

from __future__ import annotations

import _thread
import time
from math import inf
from random import Random
from threading import get_ident, local
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

real_lock: Final[Callable[[], Any]] = _thread.allocate_lock
real_rlock: Final[Callable[[], Any]] = _thread.RLock
real_time: Final = time.monotonic


class Abandoned(BaseException):
    """Ends a parked thread of a run that is over. Internal."""


class _Here(local):
    baton: Baton | None = None
    number = -1
    building = False  # this thread builds a scenario: the locks it makes are for the explorer


here: Final[_Here] = _Here()


@final
class Baton:
    """One run's threads, of which one runs at a time."""

    def __init__(self, seed: int, threads: int, most: int) -> None:
        self._random = Random(seed)
        self._often = self._random.choice((0.1, 0.3, 0.6))  # each seed hands over more or less often
        self._gates = [real_lock() for _ in range(threads)]
        for gate in self._gates:
            gate.acquire()
        self._most = most
        self.moments: int = 0
        self.time: float = 0.0
        self._alive = set(range(threads))
        self._blocked: dict[int, CooperativeLock] = {}
        self._due: dict[int, float] = {}  # when a timed wait for a lock runs out, on this run's own time
        self._timed_out: set[int] = set()
        self.over: Any = real_lock()  # released once all threads ended or the run was abandoned
        self.over.acquire()
        self.abandoned: bool = False
        self.holder: int = -1
        self.trail: list[str] = []
        self.failure: BaseException | None = None

    def start(self) -> None:
        self._hand_to(self._random.choice(sorted(self._alive)))

    def wait_for_it(self, number: int) -> None:
        """Park this thread until it is given the baton."""
        self._gates[number].acquire()
        if self.abandoned:
            raise Abandoned

    def moment(self, number: int) -> None:
        """Hand over here, or not, as the seed says."""
        if self.abandoned:
            raise Abandoned
        self.moments += 1
        if self.moments > self._most:
            self.abandon(OverflowError(f"one run took more than {self._most:,} moments"))
            raise Abandoned
        if len(self._alive) > 1 and self._random.random() < self._often:
            others = self._ready(besides=number)
            if others:
                self._hand_to(self._random.choice(others))
                self.wait_for_it(number)

    def block(self, number: int, lock: CooperativeLock, due: float) -> bool:
        """Give the baton away until `lock` may be free; say whether it may, or this run's time came to `due` (inf: never)."""
        self._blocked[number] = lock
        if due < inf:
            self._due[number] = due
        self._pass_on()
        self.wait_for_it(number)
        self._due.pop(number, None)
        if number in self._timed_out:
            self._timed_out.discard(number)
            return False
        return True

    def unblock(self, lock: CooperativeLock) -> None:
        for number in [number for number, wanted in self._blocked.items() if wanted is lock]:
            del self._blocked[number]

    def end(self, number: int, failure: BaseException | None) -> None:
        """This thread is done: the next one goes on, or the run is over."""
        if self.abandoned:
            return
        self._alive.discard(number)
        if failure is not None:
            self.abandon(failure)
        elif self._alive:
            self._pass_on()
        else:
            self.over.release()

    def abandon(self, failure: BaseException) -> None:
        """End the run: every parked thread raises `Abandoned` where it stands."""
        if self.abandoned:
            return
        self.abandoned, self.failure = True, failure
        for gate in self._gates:
            if gate.locked():
                gate.release()
        self.over.release()

    def _ready(self, *, besides: int = -1) -> list[int]:
        return [number for number in sorted(self._alive) if number != besides and number not in self._blocked]

    def _pass_on(self) -> None:
        ready = self._ready()
        if not ready and self._due:  # time passes only once nobody can do anything else
            self.time, late = min((due, number) for number, due in self._due.items())
            del self._blocked[late]
            self._timed_out.add(late)
            ready = [late]
        if ready:
            self._hand_to(self._random.choice(ready))
        else:
            names = " and thread ".join(map(str, sorted(self._blocked)))
            self.abandon(AssertionError(f"deadlock: thread {names} wait for locks that nobody will release"))

    def _hand_to(self, number: int) -> None:
        self.trail.append(f"{self.moments}>{number}")
        self.holder = number
        self._gates[number].release()


@final
class CooperativeLock:
    """A `threading.Lock` that gives the baton away instead of blocking with it; elsewhere, a plain lock."""

    __slots__ = ("__weakref__", "_inner")

    def __init__(self) -> None:
        self._inner = real_lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - the signature of threading.Lock
        baton = here.baton
        if baton is None:
            return bool(self._inner.acquire(blocking, timeout))
        baton.moment(here.number)  # also where `threading` or `queue`, whose lines are not ours, takes it
        due = baton.time + timeout if timeout >= 0 else inf
        while not self._inner.acquire(False):
            if not blocking or due <= baton.time or not baton.block(here.number, self, due):
                return False
        return True

    def release(self) -> None:
        self._inner.release()
        baton = here.baton
        if baton is not None and not baton.abandoned:
            baton.unblock(self)
            baton.moment(here.number)

    def locked(self) -> bool:
        return bool(self._inner.locked())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def _at_fork_reinit(self) -> None:
        self._inner = real_lock()


@final
class CooperativeRLock:
    """A `threading.RLock` over a cooperative lock, with what `Condition` asks of one."""

    __slots__ = ("__weakref__", "_count", "_lock", "_owner")

    def __init__(self) -> None:
        self._lock = CooperativeLock()
        self._owner: int | None = None
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - the signature of threading.RLock
        if self._owner == get_ident():
            self._count += 1
            return True
        if not self._lock.acquire(blocking, timeout):
            return False
        self._owner, self._count = get_ident(), 1
        return True

    def release(self) -> None:
        if self._owner != get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._owner = None
            self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def _is_owned(self) -> bool:
        return self._owner == get_ident()

    def _release_save(self) -> int:
        count, self._count, self._owner = self._count, 0, None
        self._lock.release()
        return count

    def _acquire_restore(self, count: int) -> None:
        self._lock.acquire()
        self._owner, self._count = get_ident(), count

    def _at_fork_reinit(self) -> None:
        self._lock, self._owner, self._count = CooperativeLock(), None, 0


def told_time() -> float:
    """Stand in for `time.monotonic` where `threading` and `queue` measure their timeouts."""
    baton = here.baton
    return real_time() if baton is None else baton.time


def _is_ours() -> bool:
    return here.building or here.baton is not None


def make_lock() -> Any:
    """Stand in for `threading.Lock`: cooperative for the explorer's threads, real for everybody else's."""
    return CooperativeLock() if _is_ours() else real_lock()


def make_rlock() -> Any:
    """Stand in for `threading.RLock` in the same way."""
    return CooperativeRLock() if _is_ours() else real_rlock()
