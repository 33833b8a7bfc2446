"""What can be observed. Each event is plain data: names, numbers and class names, never arguments, keys or messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, dataclass_transform, final

if TYPE_CHECKING:
    from finresilience.outcome import Classification


@dataclass_transform(kw_only_default=True, frozen_default=True)
class _Facts:
    """Fields are the annotations of the subclasses; all are given by keyword."""

    __slots__ = ()

    def __init__(self, **fields: Any) -> None:
        names = self._fields()
        for field in names:
            if field not in fields:
                message = f"{type(self).__name__} needs its field {field!r}"
                raise TypeError(message)
            setattr(self, field, fields[field])
        if len(fields) > len(names):
            message = f"{type(self).__name__} has no field {sorted(fields.keys() - set(names))}"
            raise TypeError(message)

    @classmethod
    def _fields(cls) -> tuple[str, ...]:
        slots: tuple[str, ...] = cls.__slots__
        return slots if "name" in slots else ("name", *slots)  # pyright: ignore[reportUnnecessaryContains] - subclasses have slots

    def __repr__(self) -> str:
        """Show every field but an answer, which may hold anything."""
        shown = ", ".join(f"{field}={getattr(self, field)!r}" for field in self._fields() if field != "value")
        return f"{type(self).__name__}({shown})"

    def __eq__(self, other: object) -> bool:
        """Two events are equal when they say the same."""
        return repr(self) == repr(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        """Hash what it says."""
        return hash(repr(self))


class Event(_Facts):
    """The base. `name` is the policy that speaks. Treat an event as frozen."""

    __slots__ = ("name",)

    name: str


@final
class CircuitChanged(Event):
    """A circuit went from one state to another."""

    __slots__ = ("after", "before", "generation", "last_failure", "open_for", "reason")

    before: str
    after: str
    generation: int
    reason: str
    open_for: float | None
    last_failure: str | None


@final
class ThresholdCrossed(Event):
    """A metrics-only circuit would have opened. Told once a stay."""

    __slots__ = ("generation", "reason")

    generation: int
    reason: str


@final
class LateResult(Event):
    """A result came after it could matter: its circuit had moved on, its lease had run out, or its caller had given up.

    `source` is `circuit` or `thread`; `succeeded` tells what the result was. For a thread this is evidence: the call given
    up as unknown did happen, or did fail; `value` is then its answer, and the only field that is never shown.
    """

    __slots__ = ("reference", "source", "succeeded", "value")

    source: str
    succeeded: bool
    reference: str | None
    value: object

    def __eq__(self, other: object) -> bool:
        """Two late results are equal when they say the same and answer the same."""
        return super().__eq__(other) and _same(self.value, other.value) if isinstance(other, LateResult) else NotImplemented

    def __hash__(self) -> int:
        """Hash what it shows: an answer need not have a hash."""
        return super().__hash__()


def _same(value: object, other: object) -> bool:
    """Compare two answers. One that cannot be compared, or answers with an array, is equal to itself only."""
    try:
        return value is other or bool(value == other)
    except Exception:
        return False


@final
class ProbeLost(Event):
    """A half-open probe did not report before its lease ran out; its permit went to the next caller."""

    __slots__ = ("generation",)

    generation: int


@final
class CallRefused(Event):
    """We did not send the call. `reason` is the refusal's class name."""

    __slots__ = ("reason", "reference")

    reason: str
    reference: str | None


@final
class RetryScheduled(Event):
    """An attempt failed and another follows after `delay` seconds."""

    __slots__ = ("attempt", "classification", "delay", "error_type", "reference")

    attempt: int
    classification: Classification
    error_type: str
    delay: float
    reference: str | None


@final
class RetriesExhausted(Event):
    """More attempts would have been allowed by the error, but something else said stop; `reason` says what."""

    __slots__ = ("attempts", "error_type", "reason", "reference")

    attempts: int
    error_type: str
    reason: str
    reference: str | None


@final
class OutcomeUnknown(Event):
    """A call ended and nobody knows whether it happened."""

    __slots__ = ("attempts", "error_type", "reference")

    attempts: int
    error_type: str
    reference: str | None


@final
class CallAbandoned(Event):
    """Somebody cancelled a call that may have been sent. Ask the provider about it.

    `ran` is how long the attempt had run, in seconds, or None where nothing but this event would have needed the time.
    """

    __slots__ = ("attempt", "ran", "reference")

    attempt: int
    ran: float | None
    reference: str | None


@final
class InquiryAnswered(Event):
    """We asked the provider about an unknown outcome. `answer` is `found`, `not_found`, `still_unknown` or `failed`."""

    __slots__ = ("answer", "ask", "reference")

    ask: int
    answer: str
    reference: str | None


@final
class FallbackUsed(Event):
    """An answer that the provider did not give took the place of how a call had ended.

    `kind` is `value`, `function`, `last_good` or `pending`; `age` is how old the answer is, in seconds; `instead_of` is the outcome and
    the class of what came, such as "Refused CircuitOpenError".
    """

    __slots__ = ("age", "instead_of", "kind", "reference")

    kind: str
    age: float
    instead_of: str
    reference: str | None


@final
class CallHedged(Event):
    """A further arm of a call was sent while another was under way, or after it had failed. Told once the call has ended.

    `arm` counts from 1, the first one sent, so it is 2 or more here; `after` is when the arm began, in seconds since the call did; `won`
    says whether its answer is the one that was taken.
    """

    __slots__ = ("after", "arm", "reference", "won")

    arm: int
    after: float
    won: bool
    reference: str | None


@final
class BulkheadResized(Event):
    """Somebody gave a bulkhead another limit."""

    __slots__ = ("after", "before")

    before: int
    after: int


@final
class PlaceLapsed(Event):
    """A caller that was let into a bulkhead did not come within the lease: its loop is stopped or busy. The place went to the next."""

    __slots__ = ("lease",)

    lease: float


@final
class SlotAwaited(Event):
    """A call waited for its turn at a rate limiter, and passed. `wait` is how long, in seconds."""

    __slots__ = ("wait",)

    wait: float


@final
class RateChanged(Event):
    """Somebody gave a rate limiter another rule; both are told as they were made."""

    __slots__ = ("after", "before")

    before: str
    after: str


@final
class CallRouted(Event):
    """A failover's call has ended. `tried` names the providers that were asked, in order; `end` is the kind of outcome.

    `route` is the provider whose outcome it is: the one that took the payment, or that may have. None where nobody was sent it.
    """

    __slots__ = ("end", "reference", "route", "tried")

    end: str
    route: str | None
    tried: tuple[str, ...]
    reference: str | None


@final
class RouteChanged(Event):
    """A provider went from one state to another: `healthy`, `drained` (it gets a trickle) or `held` (by an operator)."""

    __slots__ = ("after", "before", "reason", "route")

    route: str
    before: str
    after: str
    reason: str


class Listener(Protocol):
    """Anything that wants to hear events. It is called after every lock is released; what it raises is contained and counted."""

    def __call__(self, event: Event, /) -> object:
        """Take one event. Be quick: it runs in the caller's thread or task."""
        ...


class Publisher:
    """Hand events to listeners so that none of them can lose a result or replace an error."""

    __slots__ = ("failures", "listeners", "wants_all")

    def __init__(self, listeners: tuple[Listener, ...]) -> None:
        self.listeners: tuple[Listener, ...] = listeners
        self.failures: int = 0
        # Refusals are told only where somebody besides the log listens: they must stay cheap while a provider is down.
        self.wants_all: bool = any(listener is not log_event for listener in listeners)

    def __call__(self, event: Event) -> None:
        """Tell everyone. A listener that raises is counted in `failures`; cancellation passes through."""
        for listener in self.listeners:
            try:
                listener(event)
            except Exception:
                self.failures += 1


_WARNED: Final = (CircuitChanged, OutcomeUnknown, RetriesExhausted, CallAbandoned, RouteChanged)


def log_event(event: Event, /) -> None:
    """Warn on the stdlib logger `finresilience` of what a person should know with no set-up at all."""
    if not isinstance(event, _WARNED):
        return
    import logging

    logging.getLogger("finresilience").warning("%s: %s", event.name, _sentence(event), extra={"finresilience_event": event})


def _sentence(event: CircuitChanged | OutcomeUnknown | RetriesExhausted | CallAbandoned | RouteChanged) -> str:
    if isinstance(event, CircuitChanged):
        until = f" for {event.open_for:.1f} s" if event.open_for is not None else ""
        return f"circuit {event.before} -> {event.after}{until} ({event.reason})"
    if isinstance(event, RouteChanged):
        return f"route {event.route} {event.before} -> {event.after} ({event.reason})"
    about = f" [reference {_in_one_line(event.reference)}]" if event.reference else ""
    if isinstance(event, OutcomeUnknown):
        return f"outcome unknown after {event.attempts} attempt(s), last {event.error_type}; it may have happened{about}"
    if isinstance(event, RetriesExhausted):
        return f"gave up after {event.attempts} attempt(s), last {event.error_type}: {event.reason}{about}"
    when = f" {event.ran:.3f} s" if event.ran is not None else ""
    return f"abandoned{when} into attempt {event.attempt}; it may have happened{about}"


def _in_one_line(reference: str) -> str:
    """A reference may come from a request: a line break in it must not write a line of its own into the log."""
    return reference if reference.isprintable() else repr(reference)
