"""What was this breaker told? Checked here, once; every breaker that was told nothing shares the same settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.cores.breaker import BreakerSettings
from finresilience.cores.interval import OpenFor
from finresilience.cores.trip import ConsecutiveFailures, FailureCount, FailureRate, SlowRate
from finresilience.cores.window import TimeWindow
from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import timedelta

    from finresilience.cores.trip import TripRule
    from finresilience.cores.window import Window

_UNSAID: Final = (20, 30.0, 3, 30.0)  # minimum_calls, open_for, half_open_calls, probe_lease
_shared: list[BreakerSettings] = []  # a service has many breakers and few settings


def breaker_settings(
    *,
    window: Window | None,
    failure_rate: float | None,
    minimum_calls: int,
    failure_count: int | None,
    consecutive_failures: int | None,
    slow_rate: float | None,
    slow_after: float | timedelta | None,
    rules: tuple[TripRule, ...],
    open_for: float | timedelta | OpenFor,
    half_open_calls: int,
    probe_lease: float | timedelta,
) -> BreakerSettings:
    """Return the settings that a breaker of these arguments goes by.

    Raises:
        ConfigurationError: if an argument cannot work; the message names it and the way out.
    """
    positive_count("minimum_calls", minimum_calls)
    positive_count("half_open_calls", half_open_calls, most=10_000)
    lease = seconds_of("probe_lease", probe_lease)
    chosen = (
        *_rates(failure_rate, slow_rate, slow_after, minimum_calls),
        *_counts(failure_count, consecutive_failures),
        *_checked_rules(rules),
    )
    unsaid = window is None and not chosen and (minimum_calls, open_for, half_open_calls, lease) == _UNSAID
    if unsaid and _shared:
        return _shared[0]
    settings = BreakerSettings(
        window=_checked_window(window),
        rules=chosen or (FailureRate(0.5, minimum_calls=minimum_calls),),
        open_for=open_for if isinstance(open_for, OpenFor) else OpenFor(open_for),
        half_open_calls=half_open_calls,
        probe_lease=lease,
    )
    if unsaid:
        _shared.append(settings)
    return settings


def _rates(failure: float | None, slow: float | None, after: float | timedelta | None, minimum: int) -> list[TripRule]:
    if (slow is None) != (after is None):
        message = "slow_rate and slow_after belong together: give the share that is too much, and the seconds after which a call is slow"
        raise ConfigurationError(message)
    rules: list[TripRule] = [] if failure is None else [FailureRate(failure, minimum_calls=minimum)]
    if slow is not None and after is not None:
        rules.append(SlowRate(slow, after=after, minimum_calls=minimum))
    return rules


def _counts(failures: int | None, streak: int | None) -> list[TripRule]:
    rules: list[TripRule] = [] if failures is None else [FailureCount(failures)]
    return rules if streak is None else [*rules, ConsecutiveFailures(streak)]


def _checked_rules(rules: tuple[TripRule, ...]) -> tuple[TripRule, ...]:
    for rule in rules:
        if not callable(getattr(rule, "trips", None)) or not hasattr(rule, "minimum_calls"):
            refuse("rules", rule, "objects with `minimum_calls` and `trips(tally)`, see TripRule")
    return rules


def _checked_window(window: Window | None) -> Window:
    if window is None:
        return TimeWindow(60.0)
    if not callable(getattr(window, "start", None)):
        refuse("window", window, "a TimeWindow or a CountWindow")
    return window
