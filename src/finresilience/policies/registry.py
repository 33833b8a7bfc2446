"""One breaker for each name, however many ask at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from finresilience._checks import positive_count, refuse
from finresilience.errors import ConfigurationError
from finresilience.policies.base import Policy
from finresilience.policies.breaker import CircuitBreaker

if TYPE_CHECKING:
    from collections.abc import Callable


@final
class Registry(Policy):
    """Makes each named breaker once and hands the same one to everybody who asks.

    Args:
        make: from a name to its breaker; by default `CircuitBreaker(name, **defaults)`.
        at_most: how many may be made; one more is an error, since names must not come from traffic (for that, `CircuitBreaker.per`).
        defaults: settings for every breaker made by default.

    Raises:
        ConfigurationError: if an argument cannot work, or settings come together with `make`, which would not see them.
    """

    __slots__ = ("_at_most", "_kept", "_make")

    def __init__(self, make: Callable[[str], CircuitBreaker] | None = None, *, at_most: int = 1000, **defaults: Any) -> None:
        super().__init__("registry")
        if make is not None and not callable(make):
            refuse("make", make, "a function from a name to its CircuitBreaker")
        if make is not None and defaults:
            message = f"make= and {', '.join(sorted(defaults))}= exclude each other: let the function give its breakers their settings"
            raise ConfigurationError(message)
        if make is None:  # bad settings are told now, not at the first call; and rules from a generator are read once, for all
            make = CircuitBreaker("registry", **defaults)._sibling
        self._make: Callable[[str], CircuitBreaker] = make
        self._at_most = positive_count("at_most", at_most)
        self._kept: dict[str, CircuitBreaker] = {}

    def __getitem__(self, name: str) -> CircuitBreaker:
        """Return the breaker of this name, made if nobody asked before."""
        known = self._kept.get(name)
        if known is not None:
            return known
        self._demand_room(name)  # before anything is made: what `make` does beside, it would do for each name of the traffic
        made: object = self._make(name)  # outside the lock: it is the user's code; the first to come back wins
        if not isinstance(made, CircuitBreaker):
            refuse("make", made, "a function that returns a CircuitBreaker")
        with self._lock:
            self._demand_room(name)
            return self._kept.setdefault(name, made)

    def _demand_room(self, name: str) -> None:
        if len(self._kept) >= self._at_most and name not in self._kept:  # in this order: somebody may just have made this name, the last
            message = f"the registry holds its {self._at_most} breakers already: names must not come from traffic, use CircuitBreaker.per"
            raise ConfigurationError(message)

    def __iter__(self) -> Any:
        """Yield every breaker made so far."""
        return iter(list(self._kept.values()))

    def statistics(self) -> dict[str, object]:
        """Return the statistics of every breaker, by name."""
        return {name: breaker.statistics() for name, breaker in list(self._kept.items())}
