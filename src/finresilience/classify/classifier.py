"""What does this error, or this answer, tell about the money? Rules as data, first match wins, nobody's message is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, final

from finresilience.classify.extract import code_of as default_code_of
from finresilience.classify.extract import inner_error, retry_after_of, status_of
from finresilience.clock import Clock, ruling_clock
from finresilience.errors import (
    ConfigurationError,
    ExpiredError,
    FinresilienceError,
    RefusedError,
    ResultError,
    UnknownOutcomeError,
)
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Rule: TypeAlias = "Classification | Verdict | Callable[[object], Classification | Verdict | None]"
TypeKey: TypeAlias = "type[object] | str"

MAX_LINKS: Final = 16  # how far a chain of causes is followed
MAX_MEMO: Final = 1024  # how many classes are remembered

# Values of these exact types say nothing by themselves unless a rule asks for them.
_PLAIN: Final = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset})
_PROGRAMMER: Final = (TypeError, AttributeError, AssertionError, NameError, NotImplementedError)


@final
class ErrorClassifier:
    """Tell for any error or answer what it means for the money; total, deterministic, and blind to messages.

    Each part asks its rules in this order: type (the most specific class wins), code, status, predicate. Parts joined by
    `|` are asked from left to right, for the error itself first and then for its `__cause__`s. What nobody classifies is UNKNOWN.

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
        """Return the verdict on a raised error. Never raises for anything an error may hold."""
        if isinstance(error, FinresilienceError):
            return self._ours(error)
        if isinstance(error, BaseExceptionGroup):
            return _worst([self.error(one) for one in error.exceptions])
        link: BaseException | None = error
        for _ in range(MAX_LINKS):
            if link is None:
                break
            verdict = self._ours(link) if isinstance(link, FinresilienceError) else self._asked(link)
            if verdict is not None:
                return verdict
            link = inner_error(link)
        return Verdict(UNKNOWN, counts_against_provider=not isinstance(error, _PROGRAMMER))

    def value(self, value: object) -> Verdict | None:
        """Return the verdict on a returned answer, or None where it is an ordinary answer."""
        if value.__class__ in self.plain:
            return None
        return self._asked(value)

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

    def _ours(self, error: FinresilienceError) -> Verdict:
        if isinstance(error, RefusedError):
            return Verdict(RETRYABLE, counts_against_provider=False, retry_after=error.retry_after)
        if isinstance(error, ResultError):
            return self.value(error.value) or Verdict(UNKNOWN)
        if isinstance(error, UnknownOutcomeError | ExpiredError):
            return Verdict(UNKNOWN)
        return Verdict(NON_RETRYABLE)


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
        for key in self.status:
            _demand(isinstance(key, int) and not isinstance(key, bool) and 100 <= key <= 999, "status", key, "HTTP statuses as int")  # noqa: PLR2004 - three digits
        for pair in self.when:
            _demand(isinstance(pair, tuple) and len(pair) == 2 and callable(pair[0]), "when", pair, "pairs of predicate and rule")  # noqa: PLR2004 - a pair
        rules = (*self.types.values(), *self.codes.values(), *self.status.values(), *(rule for _, rule in self.when))
        for rule in rules:
            _demand(isinstance(rule, Classification | Verdict) or callable(rule), "a rule", rule, "a Classification, a Verdict or a function")
        _demand(self.code_of is None or callable(self.code_of), "code_of", self.code_of, "a function")

    def ignores(self, kind: type[object]) -> bool:
        return not self.when and self.code_of is None and self.rule_for(kind) is None

    def rule_for(self, kind: type[object]) -> Rule | None:
        for base in kind.__mro__:
            rule = self.types.get(base) or self.types.get(f"{base.__module__}.{base.__qualname__}")
            if rule is not None:
                return rule
        return None

    def verdict(self, subject: object, rule: Rule | None) -> Verdict | None:
        found = None if rule is None else self._told(rule, subject)
        if found is None and self.codes:
            code = default_code_of(subject) if self.code_of is None else self.code_of(subject)
            found = self._told(self.codes.get(code), subject) if code is not None else None
        if found is None and self.status:
            status = status_of(subject)
            found = self._told(self.status.get(status), subject) if status is not None else None
        for predicate, wanted in self.when if found is None else ():
            if predicate(subject):
                found = self._told(wanted, subject)
                if found is not None:
                    break
        return found

    def _told(self, rule: Rule | None, subject: object) -> Verdict | None:
        told = rule if rule is None or isinstance(rule, Classification | Verdict) else rule(subject)
        if isinstance(told, Classification):
            return Verdict(told, retry_after=retry_after_of(subject, self.clock or ruling_clock()))
        return told


def _worst(verdicts: list[Verdict]) -> Verdict:
    """Several errors at once: agreed, or UNKNOWN."""
    if len({verdict.classification for verdict in verdicts}) == 1:
        waits = [verdict.retry_after for verdict in verdicts if verdict.retry_after is not None]
        counts = any(verdict.counts_against_provider for verdict in verdicts)
        return Verdict(verdicts[0].classification, counts_against_provider=counts, retry_after=max(waits, default=None))
    return Verdict(UNKNOWN)


def _demand(holds: bool, name: str, got: object, wanted: str) -> None:  # noqa: FBT001 - it reads as a sentence where it is used
    if not holds:
        message = f"ErrorClassifier: {name} takes {wanted}, not a {type(got).__name__}"
        raise ConfigurationError(message)
