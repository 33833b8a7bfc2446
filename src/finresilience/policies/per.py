"""One circuit for each provider, tenant or host, with a bound on how many."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, final

from finresilience._checks import positive_count, refuse
from finresilience.cores.breaker import CircuitState
from finresilience.policies.guarding import Guarding
from finresilience.policies.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from finresilience.clock import Clock
    from finresilience.policies.breaker import CircuitBreaker


@final
class PerKey(Guarding):
    """Keeps a breaker of the same settings for each key. Made by `CircuitBreaker.per`."""

    __slots__ = ("_at_most", "_kept", "_key", "_template", "core", "slow_after")
    role = "CircuitBreaker"

    def __init__(self, template: CircuitBreaker, key: Callable[..., Hashable], *, at_most: int) -> None:
        if not callable(key):
            refuse("key", key, "a function of the call's arguments that names the circuit")
        self._template = template
        self._key = key
        self._at_most = positive_count("at_most", at_most)
        self._kept: OrderedDict[Hashable, CircuitBreaker] = OrderedDict()
        super().__init__(template.name, clock=template._clock if template._own_clock else None, listeners=template._publish.listeners)
        self._own_plan = None
        self.core: None = None  # no single core: calls take the road that asks `choose`
        self.slow_after: float = template.slow_after

    def _planned(self) -> Plan:
        return Plan(self, breaker=self, classifier=self._template._classify, speaks=False)

    def _hear(self, clock: Clock) -> None:
        super()._hear(clock)
        if self._own_clock:
            with self._lock:
                kept = list(self._kept.values())
            for breaker in kept:
                breaker.adopt(clock)

    def choose(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CircuitBreaker:
        """Return the breaker for a call of these arguments; the same key always has the same one while it is kept."""
        return self.of(self._key(*args, **kwargs))

    def of(self, key: Hashable) -> CircuitBreaker:
        """Return the breaker of `key`, made if need be.

        Raises:
            ConfigurationError: if it cannot be hashed, so that no circuit could be found again by it.
        """
        try:
            hash(key)
        except TypeError:
            refuse("key", key, "a function whose answers can be hashed, such as the provider's name")
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known
            if len(self._kept) >= self._at_most:
                self._make_room()
            made = self._kept[key] = self._template._sibling(_name(self.name, key))
            if self._own_clock:
                made.adopt(self._clock)
            return made

    def _make_room(self) -> None:
        """Forget the least recently used closed circuit; an open one only where all are: it is what keeps us from a dead provider."""
        for key, breaker in self._kept.items():
            if breaker.state is CircuitState.CLOSED:
                del self._kept[key]
                return
        self._kept.popitem(last=False)

    def statistics(self) -> dict[Hashable, object]:
        """Return the statistics of every breaker that is kept, by its key."""
        with self._lock:
            kept = list(self._kept.items())
        return {key: breaker.statistics() for key, breaker in kept}


def _name(family: str, key: Hashable) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(key))[:100]
    return f"{family[:90]}[{shown}]"
