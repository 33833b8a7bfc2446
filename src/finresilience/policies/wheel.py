"""When is the next deadline of this asyncio loop? One timer for all calls in flight, armed for the earliest only.

`asyncio.timeout` makes and cancels a timer for each call. Most calls finish long before; so deadlines are kept in slots of one tick
and only the earliest slot that is not empty has a timer. Never early, at most one tick late.

An alarm rings by cancelling its task. It waits its turn twice: a result already in hand is delivered first (law 3),
and an alarm further out in the same task rings only after the inner one was heard, so that each layer can tell its own expiry.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, CancelledError, Task, TimerHandle
from contextlib import suppress
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Any, Final, final
from weakref import ref

from finresilience.context import CallContext
from finresilience.policies.limits import LEAST, MOST, RATE

if TYPE_CHECKING:
    from finresilience.clock import Clock

TICK: Final = 1 / RATE
MARGIN: Final = 1e-6  # a loop may call a timer one clock resolution early; an alarm never rings early
PATIENCE: Final = 3  # loop turns that a result on its way is waited for


@final
class Alarm(CallContext):
    """One deadline of one task; in the fast lane the same object is the context of the attempt, since making two costs more.

    `handle` belongs to alarms with a timer of their own, `slot` to all others.
    """

    __slots__ = ("cancelling", "handle", "rung", "slot", "task", "turns")

    task: Task[Any] | None
    slot: dict[Alarm, None] | None
    handle: TimerHandle
    cancelling: int
    turns: int  # how often it waited its turn, once its time has come
    rung: bool

    if TYPE_CHECKING:

        def __init__(self) -> None: ...
    else:
        __init__ = object.__init__  # nothing to do, and nothing to pay for doing it


@final
class Wheel:
    """All deadlines of one loop, on the monotonic time of one clock. Used in the loop's own thread only, so it needs no lock."""

    __slots__ = (
        "_armed",
        "_loop",
        "_offset",
        "_ringing",
        "_slots",
        "_ticks",
        "_timer",
        "clock",
        "near",
        "near_from",
        "near_to",
    )

    near: dict[Alarm, None]
    near_from: float
    near_to: float

    def __init__(self, loop: AbstractEventLoop, clock: Clock) -> None:
        self._loop = ref(loop)
        self.clock: Clock = clock
        self._slots: dict[int, dict[Alarm, None]] = {}
        # The slot opened or found last, and the instants that belong to it: calls that follow each other share one.
        self.near = {}
        self.near_from = self.near_to = inf
        self._ticks: list[int] = []  # a heap of the slots' numbers
        self._timer: TimerHandle | None = None
        self._armed = 0
        self._offset = 0.0  # the loop's clock may have another zero than ours
        self._ringing: dict[Task[Any], Alarm] = {}

    @property
    def idle(self) -> bool:
        """Return whether no timer is set."""
        return self._timer is None

    def arm(self, alarm: Alarm, task: Task[Any], *, when: float, now: float, exact: bool = False) -> dict[Alarm, None]:
        """Let `alarm` cancel `task` once the monotonic time is `when`, unless it is disarmed; return the slot it is in, if any."""
        left = when - now
        alarm.task, alarm.slot, alarm.rung = None, None, False
        if left == inf:
            return {}
        alarm.task, alarm.cancelling = task, task.cancelling()
        if exact or not LEAST <= left <= MOST:
            alarm.handle = self._live().call_later(max(left, 0.0), self._soon, alarm)
            return {}
        slot = alarm.slot = self.slot(when, now)
        slot[alarm] = None
        return slot

    def slot(self, when: float, now: float) -> dict[Alarm, None]:
        """Return the slot of an instant. It stays the near one until another is asked for, or the timer has gone off."""
        tick = int(when * RATE) + 1
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._open(tick, now)
        self.near, self.near_from, self.near_to = slot, (tick - 1) * TICK, tick * TICK
        return slot

    def disarm(self, alarm: Alarm, error: BaseException | None) -> bool:
        """End an alarm, and return whether `error` is its doing: our own expiry, told apart from an outer cancellation."""
        slot, task = alarm.slot, alarm.task
        alarm.task = None
        if slot is not None:
            slot.pop(alarm, None)
        elif task is not None:
            alarm.handle.cancel()
        if not alarm.rung or task is None:
            return False
        if self._ringing.get(task) is alarm:
            del self._ringing[task]
        return task.uncancel() <= alarm.cancelling and isinstance(error, CancelledError)

    def _live(self) -> AbstractEventLoop:
        loop = self._loop()
        assert loop is not None  # noqa: S101 - only ever called from inside the running loop
        return loop

    def _open(self, tick: int, now: float) -> dict[Alarm, None]:
        slot: dict[Alarm, None] = {}
        self._slots[tick] = slot
        heappush(self._ticks, tick)
        if self._timer is None or tick < self._armed:
            self._offset = self._live().time() - now
            self._set(tick)
        return slot

    def _set(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = tick
        self._timer = self._live().call_at(tick * TICK + self._offset + MARGIN, self._turn, tick)

    def _turn(self, tick: int) -> None:
        """Ring the slot whose time has come, and set the timer for the next one that is not empty."""
        self._timer = None
        self.near_from = inf  # the near slot may be among those that go
        for alarm in reversed(self._slots[tick]):  # the latest armed is the innermost
            self._soon(alarm)
        self._slots[tick].clear()
        while self._ticks and not self._slots[self._ticks[0]]:
            del self._slots[heappop(self._ticks)]
        if self._ticks:
            self._set(self._ticks[0])

    def _soon(self, alarm: Alarm) -> None:
        alarm.turns = 0
        self._live().call_soon(self._ring, alarm)

    def _ring(self, alarm: Alarm) -> None:
        task = alarm.task
        if task is None or task.done():
            return
        waiter = getattr(task, "_fut_waiter", None)
        if (waiter is None or waiter.done()) and alarm.turns < PATIENCE:
            alarm.turns += 1  # something is on its way to the task: let it arrive
            self._live().call_soon(self._ring, alarm)
        elif (task in self._ringing or task.cancelling() > alarm.cancelling) and alarm.turns <= PATIENCE:
            alarm.turns = PATIENCE + 1
            self._live().call_later(TICK, self._ring, alarm)
        else:
            alarm.rung = True
            self._ringing[task] = alarm
            task.cancel()


def wheel_of(loop: Any, clock: Clock) -> Wheel:
    """Return the wheel of a loop and a clock, made at first use. It lives on the loop itself: it dies with it, and is found at once."""
    kept: list[Wheel] = getattr(loop, "_finresilience_wheels", [])
    wheel = next((known for known in kept if known.clock is clock), None)
    if wheel is None:
        wheel = Wheel(loop, clock)
        kept = [*(known for known in kept if not known.idle), wheel]  # a clock that nobody waits by is forgotten
    with suppress(AttributeError):  # a loop that takes no attributes gets a wheel for each call
        loop._finresilience_wheels, loop._finresilience_wheel = kept, wheel
    return wheel
