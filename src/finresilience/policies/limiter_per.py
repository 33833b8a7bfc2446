"""One rate for each tenant, user or route, with a bound on how many."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING, Any, final
from weakref import WeakValueDictionary, ref

from finresilience._checks import positive_count, refuse
from finresilience.errors import RateLimitedError
from finresilience.outcome import Refused
from finresilience.policies.guarding import Guarding
from finresilience.policies.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Mapping

    from finresilience.clock import Clock
    from finresilience.outcome import Outcome
    from finresilience.policies.limiter import RateLimiter


@final
class RatePerKey(Guarding):
    """Keeps a limiter of the same settings for each key. Made by `RateLimiter.per`.

    A limiter is forgotten, the least recently used first, only while it is as good as new: its bucket is full, or its window empty.
    So nobody exceeds the rate by being forgotten. Where every limiter that is kept still remembers a call, a new key is refused
    until one has forgotten: keep as many as there can be keys in that time. A limiter that somebody holds is kept.
    """

    __slots__ = ("_at_most", "_full_until", "_kept", "_key", "_known", "_template")
    role = "RateLimiter"

    def __init__(self, template: RateLimiter, key: Callable[..., Hashable], *, at_most: int) -> None:
        if not callable(key):
            refuse("key", key, "a function of the call's arguments that names whoever shall have a rate of its own")
        self._at_most = positive_count("at_most", at_most)
        self._template = template
        self._key = key
        self._kept: OrderedDict[Hashable, RateLimiter] = OrderedDict()
        self._known: WeakValueDictionary[Hashable, RateLimiter] = WeakValueDictionary()
        self._full_until = -inf
        self._own_plan = None
        super().__init__(template.name, clock=template._clock if template._own_clock else None, listeners=template._publish.listeners)

    def _planned(self) -> Plan:
        return Plan(self, stages=(self,), speaks=False)

    def _hear(self, clock: Clock) -> None:
        super()._hear(clock)
        self._full_until = -inf  # it was reckoned by another clock
        for limiter in list(self._kept.values()):
            if self._own_clock:
                limiter.adopt(clock)

    def choose(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> RateLimiter:
        """Return the limiter for a call of these arguments; the same key always has the same one while it is kept."""
        return self.of(self._key(*args, **kwargs))

    def of(self, key: Hashable) -> RateLimiter:
        """Return the limiter of `key`, made if need be.

        Raises:
            RateLimitedError: if there is no room for it; nothing was claimed, and nothing sent.
            ConfigurationError: if the key cannot be hashed, so that no limiter could be found again by it.
        """
        limiter, wait = self._found(key)
        if limiter is None:
            raise RateLimitedError(self.name, wait)
        return limiter

    def _found(self, key: Hashable) -> tuple[RateLimiter | None, float]:
        """Return the limiter of `key`; or None, and in how many seconds there may be room for one."""
        try:
            hash(key)
        except TypeError:
            refuse("key", key, "a function whose answers can be hashed, such as the tenant's id")
        with self._lock:
            limiter = self._kept.get(key)
            if limiter is not None:
                self._kept.move_to_end(key)
                return limiter, 0.0
            limiter = self._known.get(key)
            if limiter is not None:  # forgotten, but somebody holds it still: another one would double the rate
                return limiter, 0.0
            if len(self._kept) >= self._at_most:
                wait = self._make_room()
                if wait > 0.0:
                    return None, wait
            limiter = self._template.sibling(_name(self.name, key))
            if self._own_clock:
                limiter.adopt(self._clock)
            self._kept[key] = self._known[key] = limiter
            return limiter, 0.0

    def _make_room(self) -> float:
        """Forget the least recently used limiter that is as good as new; where none is, return in how many seconds the first may be."""
        now = self._now()
        if now < self._full_until:
            return self._full_until - now
        soonest = inf
        for key in list(self._kept):  # a list of limiters would hold them
            busy = self._kept[key].busy()
            if busy <= 0.0 and self._let_go(key):
                return 0.0
            soonest = min(soonest, busy if busy > 0.0 else self._template.rule.per)
        # Nobody looks again before then, so that a flood of new keys costs no more than a look at the clock.
        soonest = min(soonest, self._template.rule.per + self._template.max_wait)
        self._full_until = now + soonest
        return soonest

    def _let_go(self, key: Hashable) -> bool:
        """Forget the limiter of `key` unless somebody holds it, and may be about to pass: nobody would remember that call."""
        limiter = ref(self._kept.pop(key))
        held = limiter()
        if held is not None:
            self._kept[key] = held
        return held is None

    def around(self, plan: Plan, go: Callable[[], Outcome[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome[Any]:
        """Make the call once the turn of its key has come, or refuse it."""
        limiter, wait = self._found(self._key(*args, **kwargs))
        if limiter is None:
            return Refused(RateLimitedError, (self.name, wait))
        return limiter.around(plan, go, args, kwargs)

    async def aaround(
        self, plan: Plan, go: Callable[[], Awaitable[Outcome[Any]]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Outcome[Any]:
        """Make the call once the turn of its key has come, or refuse it."""
        limiter, wait = self._found(self._key(*args, **kwargs))
        if limiter is None:
            return Refused(RateLimitedError, (self.name, wait))
        return await limiter.aaround(plan, go, args, kwargs)

    def statistics(self) -> dict[Hashable, object]:
        """Return the statistics of every limiter that is kept, by its key."""
        with self._lock:
            kept = list(self._kept.items())
        return {key: limiter.statistics() for key, limiter in kept}


def _name(family: str, key: Hashable) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(key))[:100]
    return f"{family[:90]}[{shown}]"
