"""What does a fault look like to whoever makes the call? For each kind: is the call made, how long is the wait, what comes back."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, replace
from enum import Enum
from errno import ECONNRESET
from math import ceil
from typing import TYPE_CHECKING, Final, final

from finresilience._checks import positive_count
from finresilience.errors import ConfigurationError
from finresilience.events import Event
from finresilience.testing.faults import Fault, FaultKind, FaultPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping


@final
@dataclass(frozen=True, slots=True)
class Strike:
    """One fault that was injected into one call.

    Attributes:
        operation: the name of the pipeline, or of the `Chaos` where it stands alone.
        subject: the call's reference; a digest of its idempotency key where it has none; "-" where it has neither.
        attempt: how often this operation was asked of this subject, 1 for the first.
        at: when, in seconds, as the plan sees the time.
        fault: what.
        why: the permit's reason.
    """

    operation: str
    subject: str
    attempt: int
    at: float
    fault: Fault
    why: str

    @property
    def kind(self) -> FaultKind:
        """The fault's kind."""
        return self.fault.kind


@final
class ChaosError(Exception):
    """An answer that chaos made up, as a client raises it that raises for statuses. The default rules read it like any client's.

    Attributes:
        status_code: as in HTTP.
        headers: `Retry-After`, where there is one.
        code: of a decline, or None.
    """

    def __init__(self, message: str, status_code: int, *, headers: Mapping[str, str] | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.headers: dict[str, str] = dict(headers or {})
        self.code = code


@final
class FaultInjected(Event):
    """Chaos made trouble for a call. `kind` is the fault's; `why` is the permit's reason."""

    __slots__ = ("attempt", "kind", "operation", "reference", "why")

    operation: str
    kind: str
    attempt: int
    reference: str | None
    why: str


def log_injected(event: Event, /) -> None:
    """Warn on the stdlib logger `finresilience` of each fault that was injected, so that nobody hunts for it in the provider."""
    if isinstance(event, FaultInjected):
        told = f"{event.name}: {event.kind} injected into {event.operation}, attempt {event.attempt} ({event.why})"
        logging.getLogger("finresilience").warning(told, extra={"finresilience_event": event})


@final
class Wait(Enum):
    """How long it takes until something is seen."""

    NONE = "at once"
    SECONDS = "the fault's seconds"
    PATIENCE = "until the client gives up"
    ENDLESS = "until somebody stops the call"


@final
@dataclass(frozen=True, slots=True)
class Script:
    """What one kind of fault does: make the call or not, wait, and show its own answer or the call's."""

    calls: bool
    wait: Wait
    hides: bool


_MADE, _NOT_MADE = True, False
SCRIPTS: Final[Mapping[FaultKind, Script]] = {
    FaultKind.OK: Script(_MADE, Wait.NONE, hides=False),
    FaultKind.SLOW: Script(_MADE, Wait.SECONDS, hides=False),
    FaultKind.DECLINE: Script(_NOT_MADE, Wait.NONE, hides=True),
    FaultKind.DECLINE_SILENT: Script(_NOT_MADE, Wait.PATIENCE, hides=True),
    FaultKind.HANG: Script(_NOT_MADE, Wait.ENDLESS, hides=True),
    FaultKind.TIMEOUT_BEFORE: Script(_NOT_MADE, Wait.PATIENCE, hides=True),
    FaultKind.TIMEOUT_AFTER: Script(_MADE, Wait.PATIENCE, hides=True),
    FaultKind.RESET: Script(_NOT_MADE, Wait.NONE, hides=True),
    FaultKind.RESET_AFTER: Script(_MADE, Wait.NONE, hides=True),
    FaultKind.TOO_MANY: Script(_NOT_MADE, Wait.NONE, hides=True),
    FaultKind.BUSY: Script(_NOT_MADE, Wait.NONE, hides=True),
    FaultKind.HTML: Script(_NOT_MADE, Wait.NONE, hides=True),
    FaultKind.HTML_AFTER: Script(_MADE, Wait.NONE, hides=True),
    FaultKind.CONTRADICT: Script(_MADE, Wait.NONE, hides=True),
}
KINDS: Final = frozenset(SCRIPTS)
"""The kinds that can be made round somebody else's call. The others need a provider of our own: `FakeProvider`."""

_STATUS: Final[Mapping[FaultKind, int]] = {
    FaultKind.TOO_MANY: 429,
    FaultKind.BUSY: 503,
    FaultKind.HTML: 502,
    FaultKind.HTML_AFTER: 502,
    FaultKind.DECLINE: 402,
    FaultKind.CONTRADICT: 402,
}


def shown(strike: Strike) -> Exception:
    """Return what a client of the standard library would raise, or one that raises for statuses."""
    kind, fault = strike.kind, strike.fault
    about = f"{strike.operation}: {kind.value}, injected by chaos ({strike.why})"
    status = _STATUS.get(kind)
    if status is None:
        return ConnectionResetError(ECONNRESET, about) if kind in {FaultKind.RESET, FaultKind.RESET_AFTER} else TimeoutError(about)
    headers = _retry_after(fault.retry_after) if kind in {FaultKind.TOO_MANY, FaultKind.BUSY} else None
    return ChaosError(about, status, headers=headers, code=fault.code if status == 402 else None)


def _retry_after(seconds: float) -> dict[str, str]:
    """Say it in whole seconds, as HTTP does, and exactly beside it, as some providers do."""
    return {"Retry-After": str(ceil(seconds)), "retry-after-ms": str(round(seconds * 1000))}


@final
class Log:
    """The newest strikes, and how many there were. Under the lock of whoever keeps it."""

    __slots__ = ("counts", "strikes", "total")

    def __init__(self, keep: int) -> None:
        self.strikes: deque[Strike] = deque(maxlen=positive_count("keep", keep, most=1_000_000))
        self.counts: dict[FaultKind, int] = {}
        self.total: int = 0

    def add(self, strike: Strike) -> None:
        """Take note of a strike."""
        self.strikes.append(strike)
        self.total += 1
        self.counts[strike.kind] = self.counts.get(strike.kind, 0) + 1

    @property
    def forgotten(self) -> int:
        """How many strikes are no longer kept."""
        return self.total - len(self.strikes)


def replayed(log: Log, tally: Tally, seed: int) -> FaultPlan:
    """Return the plan that strikes the same attempts of the same subjects in the same way, whatever the time and the chance.

    Raises:
        ConfigurationError: if strikes are forgotten, or subjects, so that the plan would be another one.
    """
    if log.forgotten or tally.forgotten:
        message = f"{log.forgotten} of {log.total} strikes are forgotten, and {tally.forgotten} subjects: give Chaos a larger keep="
        raise ConfigurationError(message)
    attempts: dict[Fault, set[int]] = {}
    for strike in log.strikes:
        exact = replace(
            strike.fault,
            probability=1.0,
            nth=(),
            since=0.0,
            until=None,
            tag="",
            provider="",
            operation=strike.operation,
            subject=strike.subject,
        )
        attempts.setdefault(exact, set()).add(strike.attempt)
    return FaultPlan([replace(fault, nth=tuple(sorted(numbers))) for fault, numbers in attempts.items()], seed=seed)


@final
class Tally:
    """How often each thing was asked for, of the most recent ones. Under the lock of whoever keeps it."""

    __slots__ = ("_counts", "_most", "forgotten")

    def __init__(self, most: int) -> None:
        self._counts: dict[Hashable, int] = {}
        self._most = most
        self.forgotten: int = 0  # how many things begin anew at 1 if they are asked for once more

    def next(self, thing: Hashable) -> int:
        """Count once more, and return the number: 1 for the first time."""
        number = self._counts.pop(thing, 0) + 1
        self._counts[thing] = number  # at the end: what was not asked for the longest stands first
        if len(self._counts) > self._most:
            del self._counts[next(iter(self._counts))]
            self.forgotten += 1
        return number


def checked_hooks(name: str, hooks: Mapping[FaultKind, Callable[[Strike], object]]) -> dict[FaultKind, Callable[[Strike], object]]:
    """Return `hooks` if each is a plain function for a kind that can be made.

    Raises:
        ConfigurationError: if one is not; the message says which.
    """
    from finresilience.policies.decorate import Kind, kind_of

    for kind, hook in hooks.items():
        if kind not in KINDS or isinstance(hook, type) or kind_of(hook) is not Kind.SYNC:
            message = f"{name}= takes plain functions of one Strike, for kinds that chaos can make; that for {kind} is something else"
            raise ConfigurationError(message)
    return dict(hooks)
