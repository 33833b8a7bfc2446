"""The words for how a call can end: it happened, it did not, or nobody knows yet."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeAlias, TypeVar, final

from finresilience.errors import ResultError

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.errors import RefusedError

T_co = TypeVar("T_co", covariant=True)


@final
class Classification(StrEnum):
    """What one attempt tells about the money."""

    RETRYABLE = "retryable"  # transient, and known not applied
    NON_RETRYABLE = "non_retryable"  # the answer is no, and stays no
    UNKNOWN = "unknown"  # it may have been applied


RETRYABLE: Final = Classification.RETRYABLE
NON_RETRYABLE: Final = Classification.NON_RETRYABLE
UNKNOWN: Final = Classification.UNKNOWN

_FOREVER: Final = float("inf")


@final
class Effect(StrEnum):
    """What happens if the call is carried out twice. The default everywhere is UNSAFE."""

    READ = "read"  # nothing moves
    IDEMPOTENT = "idempotent"  # the provider recognises a key, so twice is once; the key is required at run time
    IDEMPOTENT_BY_NATURE = "idempotent_by_nature"  # twice is once without a key, and you say so
    UNSAFE = "unsafe"  # twice is twice

    @property
    def repeatable(self) -> bool:
        """True where an attempt of unknown outcome may be sent again."""
        return self is not Effect.UNSAFE


@final
class Verdict:
    """What to make of one error or answer.

    Args:
        classification: what it tells about the money.
        counts_against_provider: whether a breaker records it as a failure. By default RETRYABLE and UNKNOWN do: a
            decline is a healthy provider saying no.
        retry_after: seconds the provider asked us to wait, if it did.

    Raises:
        ConfigurationError: if one of them is something else: a word for a classification, a wait that is no wait.
    """

    __slots__ = ("classification", "counts_against_provider", "retry_after")
    __match_args__ = ("classification", "counts_against_provider", "retry_after")

    def __init__(
        self, classification: Classification, *, counts_against_provider: bool | None = None, retry_after: float | None = None
    ) -> None:
        if classification.__class__ is not Classification:  # "unknown" equals UNKNOWN but is not it: it would be read as a failure
            _refuse("classification", classification, "RETRYABLE, NON_RETRYABLE or UNKNOWN")
        if counts_against_provider is None:
            counts_against_provider = classification is not NON_RETRYABLE
        elif counts_against_provider.__class__ is not bool:
            _refuse("counts_against_provider", counts_against_provider, "True or False")
        if retry_after is not None and (retry_after.__class__ is not float or not 0.0 <= retry_after < _FOREVER):
            retry_after = _seconds(retry_after)
        self.classification: Classification = classification
        self.counts_against_provider: bool = counts_against_provider
        self.retry_after: float | None = retry_after

    def __eq__(self, other: object) -> bool:
        """Two verdicts are equal when they say the same."""
        return self._key() == other._key() if isinstance(other, Verdict) else NotImplemented

    def __hash__(self) -> int:
        """Hash what it says."""
        return hash(self._key())

    def __repr__(self) -> str:
        """Show what it says."""
        counts = "counts" if self.counts_against_provider else "does not count"
        wait = "" if self.retry_after is None else f", retry after {self.retry_after:g} s"
        return f"<Verdict {self.classification.value}, {counts}{wait}>"

    def _key(self) -> tuple[object, ...]:
        return (self.classification, self.counts_against_provider, self.retry_after)


def _refuse(name: str, value: object, wanted: str) -> NoReturn:
    from finresilience._checks import refuse

    refuse(name, value, wanted)


def _seconds(retry_after: object) -> float:
    """Return a wait that is not a plain float: an int, a timedelta, or nothing that can be waited for."""
    from finresilience._checks import seconds_of

    return seconds_of("retry_after", retry_after, zero=True)


@final
class Stale:
    """What marks an answer that a `Fallback` gave: it is not the provider's answer to this call.

    Args:
        age: how many seconds ago the provider gave it, at most; 0.0 for one that was made on the spot.
        reason: which end it stands in for: the kind of outcome and the class of what came, such as "Refused CircuitOpenError".
    """

    __slots__ = ("age", "reason")
    __match_args__ = ("age", "reason")

    def __init__(self, age: float, reason: str) -> None:
        self.age: float = age
        self.reason: str = reason

    def __eq__(self, other: object) -> bool:
        """Two marks are equal when they say the same."""
        return (self.age, self.reason) == (other.age, other.reason) if isinstance(other, Stale) else NotImplemented

    def __hash__(self) -> int:
        """Hash what it says."""
        return hash((self.age, self.reason))

    def __repr__(self) -> str:
        """Show what it says."""
        return f"<Stale {self.age:g} s, instead of {self.reason}>"


@final
class Ok(Generic[T_co]):
    """The provider answered and did not say no. Not "money moved": a PENDING is an Ok.

    `fallback` is None for the provider's own answer to this call. Where a `Fallback` gave it, it says so and how old the answer
    is: such an answer is never kept as the result of an idempotent call.
    """

    __slots__ = ("fallback", "value")
    __match_args__ = ("value",)

    def __init__(self, value: T_co) -> None:
        self.value: T_co = value
        self.fallback: Stale | None = None  # set afterwards, by whoever stands in: an argument would cost every call

    def unwrap(self) -> T_co:
        """Return the answer."""
        return self.value

    def __repr__(self) -> str:
        """Show the kind and the type: an answer may hold what a log must not."""
        mark = "" if self.fallback is None else f", a fallback of {self.fallback.age:g} s"
        return f"<Ok {type(self.value).__name__}{mark}>"


class _Answered(Generic[T_co]):
    """An end that holds the caller's own answer or the caller's own error, never both."""

    __slots__ = ("_error", "_name", "_value")
    __match_args__ = ("error",)

    def __init__(self, error: Exception | None = None, *, value: T_co | None = None, name: str = "call") -> None:
        self._error = error
        self._value = value
        self._name: str | None = name  # None once the error was built here, and so is not the caller's own

    @property
    def value(self) -> T_co | None:
        """The answer, where one came; None where an error was raised instead."""
        return self._value

    @property
    def error(self) -> Exception:
        """The caller's own error, or a `ResultError` round the answer, built now."""
        if self._error is None:
            self._error = ResultError(self._name or "call", self._value)
            self._name = None
        return self._error

    def unwrap(self) -> T_co:
        """Do what the plain call does: return the answer as it came, or raise the caller's own error."""
        if self._error is None or self._name is None:
            value: Any = self._value  # without an error there is a value, by construction
            return value  # type: ignore[no-any-return]  # of the caller's own type
        try:
            raise self._error
        finally:
            del self  # the traceback keeps this frame, which must not keep the error in turn

    def __repr__(self) -> str:
        """Show the kind and the type only."""
        held = type(self._value).__name__ if self._error is None else type(self._error).__name__
        return f"<{type(self).__name__} {held}>"


@final
class Declined(_Answered[T_co]):
    """The answer is no, and stays no: nothing moved."""

    __slots__ = ()


@final
class Failed(_Answered[T_co]):
    """It failed, and surely was not applied (or was only a READ)."""

    __slots__ = ()


@final
class Unknown:
    """It may have happened. Ask; do not send it again as new."""

    __slots__ = ("_make",)
    __match_args__ = ("error",)

    def __init__(self, error: Exception | Callable[[], Exception]) -> None:
        self._make = error

    @property
    def error(self) -> Exception:
        """The error, built now if nobody looked before."""
        if not isinstance(self._make, Exception):
            self._make = self._make()
        return self._make

    def unwrap(self) -> Any:
        """Raise it."""
        try:
            raise self.error
        finally:
            del self  # as above

    def __repr__(self) -> str:
        """Show the kind and the type only."""
        return f"<Unknown {type(self.error).__name__}>"


@final
class Refused:
    """We did not send it: surely nothing moved."""

    __slots__ = ("_facts", "_type")
    __match_args__ = ("error",)

    def __init__(self, error: RefusedError | type[RefusedError], facts: tuple[object, ...] = ()) -> None:
        self._type = error
        self._facts = facts

    @property
    def error(self) -> RefusedError:
        """The refusal, built now if nobody looked before: refusing must stay cheap."""
        if isinstance(self._type, type):
            self._type = self._type(*self._facts)
        return self._type

    def unwrap(self) -> Any:
        """Raise it."""
        try:
            raise self.error
        finally:
            del self  # as above

    def __repr__(self) -> str:
        """Show the kind and the type only."""
        return f"<Refused {type(self.error).__name__}>"


Outcome: TypeAlias = Ok[T_co] | Declined[T_co] | Failed[T_co] | Unknown | Refused


@final
class Found(Generic[T_co]):
    """An inquiry's answer: the provider has it, and this is what it says."""

    __slots__ = ("value",)
    __match_args__ = ("value",)

    def __init__(self, value: T_co) -> None:
        self.value: T_co = value

    def __repr__(self) -> str:
        """Show the kind and the type: an answer may hold what a log must not."""
        return f"<Found {type(self.value).__name__}>"


@final
class NotFound:
    """An inquiry's answer: the provider has never seen it. Believed only at the end of the schedule: it may be behind."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show what it is."""
        return "NotFound()"


@final
class StillUnknown:
    """An inquiry's answer: the provider cannot say yet."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show what it is."""
        return "StillUnknown()"
