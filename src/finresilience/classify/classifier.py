"""What does this error, or this answer, tell about the money? Rules as data, first match wins, nobody's message is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias, cast, final

from finresilience.classify.extract import codes_of, links, retry_after_of, status_of
from finresilience.clock import Clock, ruling_clock
from finresilience.errors import (
    ConfigurationError,
    ExpiredError,
    FinresilienceError,
    MissingKeyError,
    RefusedError,
    ResultError,
    UnknownOutcomeError,
)
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Rule: TypeAlias = Classification | Verdict | Callable[[object], Classification | Verdict | None]
TypeKey: TypeAlias = type[object] | str

MAX_MEMBERS: Final = 100  # how many errors of a group are asked; of one with more, nothing is known
MAX_MEMO: Final = 1024  # how many classes are remembered
_FOREVER: Final = float("inf")

# Values of these exact types say nothing by themselves unless a rule asks for them.
_PLAIN: Final = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset})
# Our own mistakes. They are UNKNOWN all the same: an answer that cannot be read as money may be the receipt of a charge.
_PROGRAMMER: Final = (TypeError, AttributeError, AssertionError, NameError, NotImplementedError, FinresilienceError)


@final
class ErrorClassifier:
    """Tell for any error or answer what it means for the money; total, deterministic, and blind to messages.

    Each part asks its rules in this order: type (the most specific class wins), code, status, predicate. Parts joined by
    `|` are asked from left to right, for the error itself first and then for its `__cause__`s. Of a group of errors,
    each is asked. What nobody classifies is UNKNOWN. A rule or predicate of yours that raises has not matched: it must not
    take the place of the error that it was asked about.

    Args:
        types: rules by class, or by "module.Name" for a class that need not be imported. Classes of answers may stand
            here too.
        codes: rules by the provider's code (`decline_code`, `code`, `sqlstate`... or `code_of`).
        status: rules by HTTP status.
        when: pairs of predicate and rule, asked last.
        code_of: how to find the code in an error or answer, where attributes do not do.
        clock: tells the time for a Retry-After date that comes without the response's own Date.

    Raises:
        ConfigurationError: if a key or a rule is not of these kinds.

    >>> rules = ErrorClassifier({"acme.Down": RETRYABLE}, codes={"51": NON_RETRYABLE}, status={429: RETRYABLE})
    >>> rules.error(ValueError("anything"))
    <Verdict unknown, counts>
    """

    __slots__ = ("_memo", "_parts", "plain")

    def __init__(
        self,
        types: Mapping[TypeKey, Rule] | None = None,
        *,
        codes: Mapping[str, Rule] | None = None,
        status: Mapping[int, Rule] | None = None,
        when: Iterable[tuple[Callable[[object], bool], Rule]] = (),
        code_of: Callable[[object], str | None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        for name, rules in (("types", types), ("codes", codes), ("status", status)):
            _demand(rules is None or hasattr(rules, "keys"), name, rules, "a mapping of rules")
        _demand(hasattr(when, "__iter__"), "when", when, "pairs of predicate and rule")
        part = _Part(dict(types or {}), dict(codes or {}), dict(status or {}), tuple(when), code_of, clock)
        part.check()
        self._settle((part,))

    def _settle(self, parts: tuple[_Part, ...]) -> None:
        self._parts = parts
        self._memo: dict[type[object], tuple[Rule | None, ...]] = {}
        self.plain: frozenset[type[object]] = frozenset(kind for kind in _PLAIN if all(part.ignores(kind) for part in parts))

    def __or__(self, other: ErrorClassifier) -> ErrorClassifier:
        """Ask these rules first, then the other's."""
        if not isinstance(other, ErrorClassifier):
            return NotImplemented
        joined = ErrorClassifier.__new__(ErrorClassifier)
        joined._settle((*self._parts, *other._parts))
        return joined

    def error(self, error: BaseException) -> Verdict:
        """Return the verdict on a raised error. Never raises, whatever the error holds."""
        try:
            return self._judged(error)
        except Exception:  # a hostile error, or no stack left to judge it on: it must not be replaced by one of ours
            return Verdict(UNKNOWN)

    def told(self, error: BaseException) -> Verdict | None:
        """Return what a rule says of an error, or None where nobody classified it. Never raises."""
        try:
            return self._ours(error) or self._asked(error)
        except Exception:
            return None

    def value(self, value: object) -> Verdict | None:
        """Return the verdict on a returned answer, or None where it is an ordinary answer. Never raises."""
        try:
            return None if value.__class__ in self.plain else self._asked(value)
        except Exception:  # an answer in hand is never thrown away because it could not be judged
            return None

    def _judged(self, error: BaseException, *, in_group: bool = False) -> Verdict:
        for link in links(error):
            verdict = self._ours(link) or self._asked(link)
            if verdict is None and isinstance(link, BaseExceptionGroup):
                return Verdict(UNKNOWN) if in_group else self._together(cast("BaseException", link))
            if verdict is not None:
                return verdict
        return Verdict(UNKNOWN, counts_against_provider=not isinstance(error, _PROGRAMMER))

    def _together(self, group: BaseException) -> Verdict:
        """Several errors at once are UNKNOWN: whoever raised them cancelled the rest, which may have been sent already."""
        verdicts = [self._judged(member, in_group=True) for member in _members(group)]
        waits = [verdict.retry_after for verdict in verdicts if verdict.retry_after is not None]
        counts = any(verdict.counts_against_provider for verdict in verdicts)
        return Verdict(UNKNOWN, counts_against_provider=counts, retry_after=max(waits, default=None))

    def _asked(self, subject: object) -> Verdict | None:
        for part, rule in zip(self._parts, self._rules_for(type(subject)), strict=True):
            verdict = part.verdict(subject, rule)
            if verdict is not None:
                return verdict
        return None

    def _rules_for(self, kind: type[object]) -> tuple[Rule | None, ...]:
        known = self._memo.get(kind)
        if known is None:
            if len(self._memo) >= MAX_MEMO:
                self._memo = {}
            known = self._memo[kind] = tuple(part.rule_for(kind) for part in self._parts)
        return known

    def _ours(self, error: BaseException) -> Verdict | None:
        if not isinstance(error, FinresilienceError):
            return None
        if isinstance(error, RefusedError):
            return Verdict(RETRYABLE, counts_against_provider=False, retry_after=_waitable(error.retry_after))
        if isinstance(error, ResultError):
            return self.value(error.value) or Verdict(UNKNOWN)
        if isinstance(error, UnknownOutcomeError | ExpiredError):
            return Verdict(UNKNOWN)
        return Verdict(NON_RETRYABLE) if isinstance(error, MissingKeyError) else None


@final
class _Part:
    """One classifier's own rules, before any joining."""

    __slots__ = ("clock", "code_of", "codes", "status", "types", "when")

    def __init__(
        self,
        types: dict[TypeKey, Rule],
        codes: dict[str, Rule],
        status: dict[int, Rule],
        when: tuple[tuple[Callable[[object], bool], Rule], ...],
        code_of: Callable[[object], str | None] | None,
        clock: Clock | None,
    ) -> None:
        self.types = types
        self.codes = codes
        self.status = status
        self.when = when
        self.code_of = code_of
        self.clock = clock

    def check(self) -> None:
        for key in self.types:
            _demand(isinstance(key, type) or (isinstance(key, str) and "." in key), "types", key, "a class or 'module.Name'")
        for key in self.codes:
            _demand(isinstance(key, str), "codes", key, "codes as str, such as '51'")
        for status in self.status:
            _demand(type(status) is int and 100 <= status <= 999, "status", status, "HTTP statuses as int")
        for pair in self.when:
            _demand(isinstance(pair, tuple) and len(pair) == 2 and callable(pair[0]), "when", pair, "pairs of predicate and rule")
        rules = (*self.types.values(), *self.codes.values(), *self.status.values(), *(rule for _, rule in self.when))
        for rule in rules:
            _demand(
                isinstance(rule, Classification | Verdict) or callable(rule), "a rule", rule, "a Classification, a Verdict or a function"
            )
        _demand(self.code_of is None or callable(self.code_of), "code_of", self.code_of, "a function")
        _demand(self.clock is None or hasattr(self.clock, "utc"), "clock", self.clock, "a Clock")

    def ignores(self, kind: type[object]) -> bool:
        return not self.when and self.code_of is None and self.rule_for(kind) is None

    def rule_for(self, kind: type[object]) -> Rule | None:
        for base in kind.__mro__:
            rule = self.types.get(base) or self.types.get(f"{base.__module__}.{base.__qualname__}")
            if rule is not None:
                return rule
        return None

    def verdict(self, subject: object, rule: Rule | None) -> Verdict | None:
        for wanted in self._candidates(subject, rule):
            told = self._told(wanted, subject)
            if told is not None:
                return told
        return None

    def _candidates(self, subject: object, rule: Rule | None) -> Iterator[Rule | None]:
        yield rule
        if self.codes:
            for code in codes_of(subject) if self.code_of is None else (_safely(self.code_of, subject),):
                yield self.codes.get(code) if isinstance(code, str) else None
        if self.status:
            status = status_of(subject)
            yield None if status is None else self.status.get(status)
        for predicate, wanted in self.when:
            if _safely(predicate, subject):
                yield wanted

    def _told(self, rule: Rule | None, subject: object) -> Verdict | None:
        told: object = rule if rule is None or isinstance(rule, Classification | Verdict) else _safely(rule, subject)
        if isinstance(told, Classification):
            return Verdict(told, retry_after=retry_after_of(subject, self.clock or ruling_clock()))
        return told if isinstance(told, Verdict) else None


def _safely(function: Callable[[object], object], subject: object) -> object:
    """Ask a function of the caller's; where it raises, it has not matched."""
    try:
        return function(subject)
    except Exception:
        return None


def _waitable(seconds: float | None) -> float | None:
    """Return a refusal's hint if it can be waited for; where it cannot, it is a refusal all the same."""
    return seconds if isinstance(seconds, int | float) and 0 <= seconds < _FOREVER and not isinstance(seconds, bool) else None


def _members(group: BaseException) -> list[BaseException]:
    """Return the errors in a group and in its groups, up to one more than are asked."""
    waiting: list[BaseException] = [group]
    members: list[BaseException] = []
    for _ in range(MAX_MEMBERS * 2):
        if not waiting or len(members) > MAX_MEMBERS:
            return members
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(cast("BaseExceptionGroup[BaseException]", one).exceptions[: MAX_MEMBERS + 1])
        else:
            members.append(one)
    return [*members, *waiting[: MAX_MEMBERS + 1]]


def _demand(holds: bool, name: str, got: object, wanted: str) -> None:  # noqa: FBT001 - it reads as a sentence where it is used
    if not holds:
        message = f"ErrorClassifier: {name} takes {wanted}, not a {type(got).__name__}"
        raise ConfigurationError(message)
