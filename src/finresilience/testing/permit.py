"""May trouble be made here? Only with a permit that says why, where and until when; it is looked at again before each strike."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, final

from finresilience._checks import name_of, positive_count, refuse
from finresilience.clock import SystemClock, ruling_clock
from finresilience.testing.faults import EVERY, FaultKind

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST: Final = timedelta(days=7)
_SESSIONS: Final = ("PYTEST_VERSION", "PYTEST_CURRENT_TEST")  # pytest sets them for its whole session, and for each test


@final
class ChaosPermit:
    """The leave to make trouble: for tests by `ChaosPermit.in_test(why)`, anywhere else by naming the environment and the end.

        ChaosPermit("game day 12: does reconciliation catch lost answers?", until=tonight, variable="APP_ENV", allowed=["staging"])

    It holds only while the environment variable has one of the allowed values, and before `until`; a permit that no longer holds makes
    chaos pass every call on untouched. It never changes.

    Args:
        why: for whoever reads `explain()`, the log, or an injected error.
        until: an aware datetime, at most 7 days ahead.
        variable: the environment variable that says where this process runs.
        allowed: the values of it under which trouble may be made; anything else, and no value, means no.
        kinds: what may be injected; every kind by default. Leave out those of `MOVES`, and no answer of a payment that happened is lost.
        at_most: how many faults each `Chaos` may inject under it: the blast radius.

    Raises:
        ConfigurationError: if an argument cannot work; the message names it.
    """

    __slots__ = ("_allowed", "_at_most", "_kinds", "_until", "_variable", "_why")

    def __init__(
        self,
        why: str,
        *,
        until: datetime,
        variable: str,
        allowed: Iterable[str],
        kinds: Iterable[FaultKind] = EVERY,
        at_most: int = 1000,
    ) -> None:
        self._why = name_of("why", why)
        if not isinstance(until, datetime) or until.tzinfo is None:
            refuse("until", until, "an aware datetime, such as datetime.now(UTC) + timedelta(hours=2)")
        self._until: datetime | None = until.astimezone(UTC)
        self._variable = name_of("variable", variable)
        self._allowed = _values(allowed)
        self._kinds = _kinds(kinds)
        self._at_most: int | None = positive_count("at_most", at_most)

    @classmethod
    def in_test(cls, why: str, *, kinds: Iterable[FaultKind] = EVERY) -> ChaosPermit:
        """Return a permit that holds where a test runs, and nowhere else: under pytest, or while a test clock rules.

        Args:
            why: for whoever reads `explain()`, the log, or an injected error.
            kinds: what may be injected; every kind by default.
        """
        permit = cls.__new__(cls)
        permit._why, permit._kinds = name_of("why", why), _kinds(kinds)
        permit._until, permit._at_most = None, None
        permit._variable, permit._allowed = "", frozenset()
        return permit

    @property
    def why(self) -> str:
        """The reason, as given."""
        return self._why

    @property
    def until(self) -> datetime | None:
        """When it ends, in UTC; None where it holds for tests."""
        return self._until

    @property
    def kinds(self) -> frozenset[FaultKind]:
        """What may be injected."""
        return self._kinds

    @property
    def at_most(self) -> int | None:
        """How many faults each `Chaos` may inject; None, in tests, for any number."""
        return self._at_most

    def refusal(self, utc: datetime) -> str | None:
        """Return why it does not hold at this time in this process, or None if it does."""
        if self._until is None:
            return None if _in_test() else "it holds in tests only, and neither does pytest run here nor does a test clock rule"
        if utc >= self._until:
            return f"it ended at {self._until:%Y-%m-%d %H:%M:%S} UTC"
        if self._until - utc > LONGEST:
            return f"it would end in more than {LONGEST.days} days: give an earlier until="
        value = os.environ.get(self._variable)
        if value is None:
            return f"the environment variable {self._variable} is not set, so nobody knows where this is"
        return None if value in self._allowed else f"{self._variable} is {value!r} here, and it allows {_listed(self._allowed)}"

    def __str__(self) -> str:
        if self._until is None:
            return f"{self._why} (in tests)"
        return f"{self._why} (until {self._until:%Y-%m-%d %H:%M:%S} UTC, where {self._variable} is {_listed(self._allowed)})"

    def __repr__(self) -> str:
        return f"<ChaosPermit {self}>"


def _in_test() -> bool:
    return not isinstance(ruling_clock(), SystemClock) or any(name in os.environ for name in _SESSIONS)


def _values(allowed: Iterable[str]) -> frozenset[str]:
    values: frozenset[object] = frozenset() if isinstance(allowed, str) else frozenset(allowed)
    told = frozenset(value for value in values if isinstance(value, str) and value.strip())
    if not told or len(told) < len(values):
        refuse("allowed", allowed, 'the names of environments, such as ["staging"]')
    return told


def _kinds(kinds: Iterable[FaultKind]) -> frozenset[FaultKind]:
    told: frozenset[object] = frozenset(kinds)
    known = frozenset(kind for kind in told if isinstance(kind, FaultKind))
    if not known or len(known) < len(told):
        refuse("kinds", kinds, "kinds of faults, such as [FaultKind.SLOW, FaultKind.BUSY]")
    return known


def _listed(values: frozenset[str]) -> str:
    return " or ".join(sorted(values))
