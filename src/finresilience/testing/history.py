"""Who asked for what, when, and how did it end for them? Recorded by callers, and held against the provider's ledger afterwards."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, final

from finresilience._checks import positive_count, refuse
from finresilience.errors import ConfigurationError, ExpiredError, UnknownOutcomeError
from finresilience.outcome import Ok, Outcome, Unknown
from finresilience.testing.errors import BoundReachedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from finresilience.money import Money


class End(StrEnum):
    """How an operation ended for whoever asked for it."""

    OK = "ok"
    FAIL = "fail"  # it surely did not happen: declined, refused, failed
    UNKNOWN = "unknown"


@final
@dataclass(frozen=True, slots=True)
class Booking:
    """One line of a provider's true ledger: the money moved.

    Args:
        provider: whose ledger.
        reference: of the payment, as the caller knows it.
        operation: "charge", "refund", "capture", ...
        amount: what moved.
        at: when, in seconds of the provider's clock.
        key: the idempotency key that came with it, if any.
    """

    provider: str
    reference: str
    operation: str
    amount: Money
    at: float = 0.0
    key: str | None = field(default=None, repr=False)


@final
class Entry:
    """One operation: asked for once, however many attempts were made.

    Attributes:
        number: its place in the history, 1 for the first.
        operation: what was asked for.
        reference: of the payment.
        amount: what should move, or None where nothing does, as in an inquiry.
        key: the idempotency key it was asked with, if that was told.
        began: when, in seconds.
        ended: when, or None while nobody knows.
        end: how, or None while it is under way; an operation that never ends is UNKNOWN.
        attempts: how many attempts were noted.
    """

    __slots__ = ("amount", "attempts", "began", "end", "ended", "key", "number", "operation", "reference")

    def __init__(self, number: int, operation: str, reference: str, amount: Money | None, began: float, *, key: str | None = None) -> None:
        self.number: int = number
        self.operation: str = operation
        self.reference: str = reference
        self.amount: Money | None = amount
        self.key: str | None = key
        self.began: float = began
        self.ended: float | None = None
        self.end: End | None = None
        self.attempts: int = 0

    @property
    def told(self) -> End:
        """What its caller knows: how it ended, and UNKNOWN as long as it has not."""
        return End.UNKNOWN if self.end is None else self.end

    def __repr__(self) -> str:
        end = "under way" if self.end is None else self.end
        return f"<Entry {self.number}: {self.operation} {self.reference}, {end}, {self.attempts} attempts>"


_current: Final[ContextVar[Entry | None]] = ContextVar("finresilience.testing.entry", default=None)


@final
class History:
    """What callers asked for and were told, in order. Safe to use from threads and from any event loop.

        with history.call("charge", reference, amount) as entry:
            receipt = charge(request)

    A block that ends well is OK; one that raises `UnknownOutcomeError` or `ExpiredError`, alone or in a group, or is cancelled, is
    UNKNOWN; any other exception is FAIL. Whoever knows better says so inside, by `end` or `outcome`: that stands.

    Args:
        now: tells the seconds; all zero by default.
        at_most: how many operations it may hold. One more is refused by `BoundReachedError`: a history that forgets proves nothing.
    """

    def __init__(self, now: Callable[[], float] = float, *, at_most: int = 1_000_000) -> None:
        if not callable(now):
            refuse("now", now, "a function that returns seconds, such as clock.monotonic")
        self._now = now
        self._at_most = positive_count("at_most", at_most)
        self._lock = threading.Lock()  # looked up here: so `explore_threads` gives a lock that hands over
        self._about: dict[str, list[Entry]] = {}
        self._listeners: list[Callable[[Entry], object]] = []
        self.entries: list[Entry] = []

    def invoke(self, operation: str, reference: str, amount: Money | None = None, *, key: str | None = None) -> Entry:
        """Note that an operation begins, and return its entry."""
        for name, value in (("operation", operation), ("reference", reference)):
            if not isinstance(value, str):
                refuse(name, value, "a str, such as 'charge' and your own reference of the payment")
        with self._lock:
            if len(self.entries) >= self._at_most:
                message = f"this history holds {self._at_most} operations and may hold no more: give History(at_most=...) a larger bound"
                raise BoundReachedError(message)
            entry = Entry(len(self.entries) + 1, operation, reference, amount, self._now(), key=key)
            self.entries.append(entry)
            self._about.setdefault(reference, []).append(entry)
        return entry

    def attempt(self, entry: Entry | None = None) -> None:
        """Note that one more attempt is made: of the operation whose `call` block is running, unless you name another."""
        known = _current.get() if entry is None else entry
        if known is None or not self._mine(known):
            message = "no operation of this history is under way here: note attempts inside `with history.call(...)`, or name the entry"
            raise ConfigurationError(message)
        with self._lock:
            known.attempts += 1

    def end(self, entry: Entry, end: End) -> None:
        """Note how an operation ended.

        Raises:
            ConfigurationError: if it has ended before, or belongs to another history.
        """
        if not isinstance(end, End):
            refuse("end", end, "End.OK, End.FAIL or End.UNKNOWN")
        with self._lock:
            if not self._mine(entry):
                message = f"{entry!r} belongs to another history: end it there"
                raise ConfigurationError(message)
            if entry.end is not None:
                message = f"{entry!r} has ended before: invoke() once for each operation"
                raise ConfigurationError(message)
            entry.ended, entry.end = self._now(), end
        self._tell(entry)

    def resolve(self, entry: Entry, end: End) -> None:
        """Note what somebody found out later of an operation that had ended UNKNOWN: by an inquiry, a webhook, a report.

        Raises:
            ConfigurationError: if it is not UNKNOWN, or `end` is.
        """
        if end not in {End.OK, End.FAIL}:
            refuse("end", end, "End.OK or End.FAIL: what somebody found out")
        with self._lock:
            if not self._mine(entry) or entry.end is not End.UNKNOWN:
                message = f"{entry!r} is no operation of this history that ended unknown: there is nothing to find out"
                raise ConfigurationError(message)
            entry.ended, entry.end = self._now(), end
        self._tell(entry)

    def outcome(self, entry: Entry, outcome: Outcome[Any], *, done: Callable[[Any], bool] | None = None) -> None:
        """Note how an operation ended, by its outcome.

        An Ok that a fallback gave is UNKNOWN: nobody has told the caller that it happened.

        Args:
            entry: the operation.
            outcome: its outcome.
            done: whether an Ok's answer says that it has happened. A provider's "pending" does not, and leaves it UNKNOWN.
        """
        ok = isinstance(outcome, Ok) and outcome.fallback is None and (done is None or done(outcome.value))
        doubt = isinstance(outcome, Unknown | Ok)
        self.end(entry, End.OK if ok else End.UNKNOWN if doubt else End.FAIL)

    @contextmanager
    def call(self, operation: str, reference: str, amount: Money | None = None, *, key: str | None = None) -> Generator[Entry]:
        """Note what the block asks for and how it ends."""
        entry = self.invoke(operation, reference, amount, key=key)
        token = _current.set(entry)
        try:
            yield entry
        except BaseException as error:
            if entry.end is None:
                self.end(entry, End.UNKNOWN if _leaves_a_doubt(error) else End.FAIL)
            raise
        else:
            if entry.end is None:
                self.end(entry, End.OK)
        finally:
            with suppress(ValueError):  # a generator may be closed from another context
                _current.reset(token)

    @contextmanager
    def listening(self, listener: Callable[[Entry], object]) -> Generator[None]:
        """Tell `listener` of each entry that ends while the block runs, in the thread that ends it."""
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)

    def about(self, reference: str) -> History:
        """Return the part of this history that speaks of one payment: the same entries, which can be read but not ended there."""
        part = History(self._now, at_most=self._at_most)
        with self._lock:
            part.entries = list(self._about.get(reference, ()))
        part._about[reference] = part.entries
        return part

    def to_json(self, ledger: Iterable[Booking] = ()) -> str:
        """Return the history, and what moved, as one line of JSON: keep it beside a failure and check it again elsewhere.

        It holds references, amounts and idempotency keys: keep it where you keep those.
        """
        from finresilience.testing.records import written

        return written(self, ledger)

    @classmethod
    def from_json(cls, text: str) -> History:
        """Return the history that was written by `to_json`; `records.ledger_from_json` returns what moved.

        Raises:
            ConfigurationError: if `text` is no history, or one of a later format.
        """
        from finresilience.testing.records import history_from_json

        return history_from_json(text)

    def _tell(self, entry: Entry) -> None:
        for listener in tuple(self._listeners):
            listener(entry)

    def _mine(self, entry: Entry) -> bool:
        return 1 <= entry.number <= len(self.entries) and self.entries[entry.number - 1] is entry

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self.entries))

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<History of {len(self.entries)} operations>"


def _leaves_a_doubt(error: BaseException) -> bool:
    """Return whether, after this exception, nobody knows if the operation happened."""
    if isinstance(error, BaseExceptionGroup):
        return any(_leaves_a_doubt(one) for one in error.exceptions)
    return isinstance(error, UnknownOutcomeError | ExpiredError) or not isinstance(error, Exception)
