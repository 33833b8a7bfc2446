"""Circuits for the tests of the breaker's core: what they were told, and what was heard of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from finresilience.cores.breaker import BreakerCore, BreakerSettings, Change, CircuitState as S
from finresilience.cores.interval import OpenFor
from finresilience.cores.trip import ConsecutiveFailures, FailureRate, SlowRate
from finresilience.cores.window import CountWindow

if TYPE_CHECKING:
    from finresilience.cores.trip import TripRule
    from finresilience.cores.window import Window

Make = Callable[..., Any]  # a BreakerCore, or a saboteur in its place
Act = Callable[[Any], object]  # what a person or a call does to a core
LEASE, BASE, CAP = 4.0, 8.0, 32.0


def told(*, size: int = 3, rules: tuple[TripRule, ...] = (), window: Window | None = None) -> BreakerSettings:
    return BreakerSettings(
        window=window or CountWindow(6),
        rules=rules or (FailureRate(0.5, minimum_calls=4), SlowRate(0.5, after=1.0, minimum_calls=4), ConsecutiveFailures(3)),
        open_for=OpenFor(BASE, factor=2.0, cap=CAP, jitter=0.0),
        half_open_calls=size,
        probe_lease=LEASE,
    )


def fresh(make: Make = BreakerCore, **kwargs: Any) -> Any:
    return make(told(**kwargs), 0.0, lambda: 0.0)


def half_open(make: Make = BreakerCore, **kwargs: Any) -> Any:
    """Return a core whose interval is over at 8: the next to ask is its first probe."""
    core = fresh(make, **kwargs)
    core.trip(0.0, BASE)
    core.news = ()
    return core


def passed(core: BreakerCore, now: float) -> Any:
    """Return the permit of a call that the circuit lets pass."""
    permit = core.admit(now)
    assert permit is not None
    return permit


def call(core: BreakerCore, now: float, *, failed: bool = False, slow: bool = False, **more: Any) -> None:
    """Make one call that ends at once."""
    core.settle(passed(core, now), now, failed=failed, slow=slow, **more)


def heard(core: BreakerCore) -> list[tuple[S, S] | str]:
    """Return the news in short, and leave none unread."""
    news = [(item.before, item.after) if isinstance(item, Change) else item.kind for item in core.news]
    core.news = ()
    return news
