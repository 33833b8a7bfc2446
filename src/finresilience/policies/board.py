"""Where the health of providers is kept, for one failover or for several that share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from finresilience._checks import refuse, seconds_of, share_of
from finresilience.cores.health import Health, HealthSettings
from finresilience.policies.base import Policy

if TYPE_CHECKING:
    from finresilience.clock import Clock
    from finresilience.cores.health import Turn

_RATE: Final = 0.25
_TRICKLE: Final = 0.01
_EVERY: Final = 2.0


def health_settings(failure_rate: object, trickle: object, watch_every: object) -> HealthSettings:
    """Return the rules that were given, or the usual ones for those that were not.

    Raises:
        ConfigurationError: if one cannot work.
    """
    rate = _RATE if failure_rate is None else share_of("failure_rate", failure_rate)
    if rate > 0.9:
        refuse("failure_rate", rate, "a share above 0 to 0.9: a provider that fails more often than that must be found out sooner")
    return HealthSettings(
        failure_rate=rate,
        trickle=_TRICKLE if trickle is None else share_of("trickle", trickle),
        watch_every=_EVERY if watch_every is None else seconds_of("watch_every", watch_every),
    )


@final
class Board(Policy):
    """The health of providers, by name, and the lock under which every failover that shares it decides."""

    __slots__ = ("_healths", "_news", "settings")

    def __init__(self, name: str, settings: HealthSettings, *, clock: Clock | None) -> None:
        self._healths: dict[str, Health] = {}
        self._news: list[Turn] = []
        self.settings: HealthSettings = settings
        super().__init__(name, clock=clock, listeners=())

    def of(self, provider: str) -> Health:
        """Return the health of this provider, made if nobody asked before."""
        with self._lock:
            known = self._healths.get(provider)
            if known is None:
                known = self._healths[provider] = Health(provider, self.settings, self._news.append)
            return known

    def read(self) -> list[Turn]:
        """Return what has turned since somebody last asked. Under the lock."""
        news = self._news[:]
        self._news.clear()
        return news

    def _hear(self, clock: Clock) -> None:
        was = getattr(self, "_now", None)
        super()._hear(clock)
        if was is not None:
            with self._lock:
                for health in self._healths.values():
                    health.shift(self._now() - was())
