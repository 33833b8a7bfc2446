"""One bulkhead for each tenant, with a bound on how many, and perhaps one limit for all of them together."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, cast, final

from finresilience._checks import positive_count, refuse
from finresilience.errors import BulkheadFullError
from finresilience.policies.bulkhead import Bulkhead, ClosedError
from finresilience.policies.bulkhead_guard import BulkheadGuard
from finresilience.policies.guarding import Guarding
from finresilience.policies.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from finresilience.clock import Clock
    from finresilience.policies.gates import Gate

SHOWN: Final = 100  # how much of a key is shown in a name


@final
class Partitions(Guarding):
    """Keeps a bulkhead of the same settings for each key, so that one tenant cannot take the places of all. Made by `Bulkhead.per`.

    A partition is forgotten only while nobody is in it, or its limit would be exceeded. With a `total`, a call first gets a
    place in its partition and then one in the total, in this order always, so that no two calls wait for each other; a tenant that
    floods us waits in its own queue and holds no place of the total.
    """

    __slots__ = ("_at_most", "_door", "_kept", "_key", "_template", "total")
    role = "Bulkhead"

    def __init__(self, template: Bulkhead, key: Callable[..., Hashable], *, at_most: int, total: Bulkhead | int | None = None) -> None:
        clock = template._clock if template._own_clock else None
        if not callable(key):
            refuse("key", key, "a function of the call's arguments that names whoever shall have a limit of its own")
        self._at_most = positive_count("at_most", at_most)
        self._template = template
        self._key = key
        self._kept: OrderedDict[Hashable, Bulkhead] = OrderedDict()
        self._door = RLock()  # as in a bulkhead: the collector may call us in the midst of it
        self._own_plan = None
        self.total: Bulkhead | None = _total(template, total, clock)
        super().__init__(template.name, clock=clock, listeners=template._publish.listeners)

    def _planned(self) -> Plan:
        return Plan(self, bulkhead=cast("Gate", self), speaks=False)  # it is none itself, and chooses one for each call

    def forked(self) -> None:
        """Begin anew in a forked child; the partitions do the same."""
        self._door = RLock()

    def _hear(self, clock: Clock) -> None:
        super()._hear(clock)
        with self._door:
            kept = [*self._kept.values()]
        for room in (*kept, *(() if self.total is None else (self.total,))):
            if self._own_clock:
                room.adopt(clock)

    def choose(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Partition:
        """Return the gate for a call of these arguments."""
        return self.of(self._key(*args, **kwargs))

    def of(self, key: Hashable) -> Partition:
        """Return the gate of `key`; nothing is made or kept until somebody enters it.

        Raises:
            ConfigurationError: if it cannot be hashed, so that no partition could be found again by it.
        """
        try:
            hash(key)
        except TypeError:
            refuse("key", key, "a function whose answers can be hashed, such as the tenant's id")
        return Partition(self, key)

    def room(self, key: Hashable) -> Bulkhead | None:
        """Return the bulkhead of `key`, made if need be, or None where all are in use. Internal: partitions ask, at every entry."""
        with self._door:
            known = self._kept.get(key)
            if known is not None:
                if not known.core.closed:
                    self._kept.move_to_end(key)
                    return known
                del self._kept[key]  # somebody was interrupted while forgetting it
            if len(self._kept) >= self._at_most and not self._make_room():
                return None
            made = self._template.sibling(_name(self.name, key), self._clock if self._own_clock else None)
            return self._kept.setdefault(key, made)

    def _make_room(self) -> bool:
        """Forget the least recently used partition in which nobody is, and return whether there was one."""
        for key, room in self._kept.items():
            if room.close():
                del self._kept[key]
                return True
        return False

    def refusal(self) -> BulkheadFullError:
        """Return the error for a call that would need one partition more. Internal."""
        return BulkheadFullError(self.name, self._at_most, 0.0)

    def resize(self, limit: int) -> None:
        """Let at most `limit` calls of each key be at work from now on; see `Bulkhead.resize`. The total stays as it is."""
        with self._door:
            self._template.resize(limit)
            kept = [*self._kept.values()]
        for room in kept:
            room.resize(limit)  # one that was forgotten meanwhile stays shut

    def statistics(self) -> dict[Hashable, dict[str, object]]:
        """Return the statistics of every partition that is kept, by its key."""
        with self._door:
            kept = [*self._kept.items()]
        return {key: room.statistics() for key, room in kept}


@final
class Partition:
    """The gate of one key: a place in its own bulkhead, then one in the total. What it gives is given back in the other order."""

    __slots__ = ("_family", "key")

    def __init__(self, family: Partitions, key: Hashable) -> None:
        self._family = family
        self.key: Hashable = key

    def guard(self) -> BulkheadGuard:
        """Return a permit for one block, see `Bulkhead.guard`."""
        return BulkheadGuard(self._family, self)

    def take(self) -> object:
        """Let the caller in at once and return what it holds, or return None, having claimed nothing, if it would have to wait."""
        while (room := self._family.room(self.key)) is not None:
            hold, total = room.take(), self._family.total
            if hold is None:
                if room.core.closed:  # forgotten since we asked for it
                    continue
                return None
            if total is None:
                return (room, hold, None)
            try:
                also = total.take()
            except BaseException:
                room.leave(hold)
                raise
            if also is None:
                room.leave(hold)
                return None
            return (room, hold, also)
        return None

    def enter(self, deadline: float = inf) -> object:
        """Wait for a place of its own, then for one in the total, each as `Bulkhead.enter` does, and return what the caller holds."""
        total = self._family.total
        while (room := self._family.room(self.key)) is not None:
            try:
                hold = room.enter(deadline)
            except ClosedError:
                continue
            try:
                return (room, hold, None if total is None else total.enter(deadline))
            except BaseException:
                room.leave(hold)
                raise
        raise self._family.refusal()

    async def aenter(self, deadline: float = inf) -> object:
        """Wait for a place as `enter` does, without blocking the thread."""
        total = self._family.total
        while (room := self._family.room(self.key)) is not None:
            try:
                hold = await room.aenter(deadline)
            except ClosedError:
                continue
            try:
                return (room, hold, None if total is None else await total.aenter(deadline))
            except BaseException:
                room.leave(hold)
                raise
        raise self._family.refusal()

    def leave(self, hold: Any) -> None:
        """Take back both places. The total's first: whoever then comes in here finds it free."""
        room, own, also = hold
        total = self._family.total
        try:
            if total is not None and also is not None:
                total.leave(also)
        finally:
            room.leave(own)


def _total(template: Bulkhead, total: Bulkhead | int | None, clock: Clock | None) -> Bulkhead | None:
    if total is None or isinstance(total, Bulkhead):
        return total
    limit = positive_count("total", total)
    made = template.sibling(f"{template.name[:190]}.total", clock)
    made.core.limit = limit
    return made


def _name(family: str, key: Hashable) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(key))[:SHOWN]
    return f"{family[:90]}[{shown}]"
