"""What guards a call: the policies, the rules and the words that belong to it, put together once."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, final

from finresilience.context import CallContext, checked_key, current, derive_key, mark_outside, moved_inside
from finresilience.errors import ConfigurationError, ExpiredError, MissingKeyError, UnknownOutcomeError
from finresilience.outcome import RETRYABLE, UNKNOWN, Effect, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.policies.base import Policy
    from finresilience.policies.breaker import CircuitBreaker
    from finresilience.policies.gates import Gate, Innermost, Stage
    from finresilience.policies.hedge import Hedge
    from finresilience.policies.inquiry import Inquiry
    from finresilience.policies.per import PerKey
    from finresilience.policies.retry import Retry
    from finresilience.policies.timeout import Timeout

_default: list[ErrorClassifier] = []
_none: list[ErrorClassifier] = []


def default_classifier() -> ErrorClassifier:
    """Return the rules for whoever was given none: HTTP and its clients, sockets, declines. Made once."""
    if not _default:
        from finresilience.classify import payments_classifier

        _default.append(payments_classifier())
    return _default[0]


def no_rules() -> ErrorClassifier:
    """Return rules for whoever must not judge: every answer is an answer, every error tells nothing."""
    if not _none:
        from finresilience.classify.classifier import ErrorClassifier

        _none.append(ErrorClassifier({}))
    return _none[0]


@final
class Ends:
    """How many calls ended how. Ok is counted in the lanes, by one addition."""

    __slots__ = ("abandoned", "declined", "failed", "ok", "refused", "resolved", "retried", "unknown")

    abandoned: int
    declined: int
    failed: int
    ok: int
    refused: int
    resolved: int
    retried: int
    unknown: int

    def __init__(self) -> None:
        self.abandoned = self.declined = self.failed = self.ok = 0
        self.refused = self.resolved = self.retried = self.unknown = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: getattr(self, name) for name in self.__slots__}


@final
class Plan:
    """Everything a call needs to know of its guards. Immutable but for the counts and the inquiry."""

    __slots__ = (
        "breaker",
        "chosen",
        "classifier",
        "deadline",
        "effect",
        "ends",
        "gates",
        "hedge",
        "hushed",
        "innermost",
        "inquiry",
        "inside",
        "key_of",
        "lone",
        "marks_sent",
        "owner",
        "plain",
        "reference_of",
        "retry",
        "simple",
        "slow_after",
        "speaks",
        "staged",
        "stages",
        "threshold",
        "timed",
        "timeout",
    )

    def __init__(
        self,
        owner: Policy,
        *,
        breaker: CircuitBreaker | PerKey | None = None,
        retry: Retry | None = None,
        timeout: Timeout | None = None,
        bulkhead: Gate | None = None,
        limiter: Gate | None = None,
        stages: tuple[Stage, ...] = (),
        hedge: Hedge | None = None,
        inside: Plan | None = None,
        innermost: Innermost | None = None,
        classifier: ErrorClassifier | None = None,
        effect: Effect = Effect.UNSAFE,
        key_of: Callable[..., str | None] | None = None,
        reference_of: Callable[..., str | None] | None = None,
        deadline: float = inf,
        marks_sent: bool = False,
        speaks: bool = True,
    ) -> None:
        self.owner: Policy = owner
        self.breaker: CircuitBreaker | PerKey | None = breaker
        self.retry: Retry | None = retry
        self.timeout: Timeout | None = timeout
        # What an attempt passes before its time begins: a slot of the provider's quota, then a place at work.
        self.gates: tuple[Gate, ...] = tuple(gate for gate in (limiter, bulkhead) if gate is not None)
        self.chosen: bool = any(hasattr(gate, "choose") for gate in self.gates)  # a family: which gate it is depends on the arguments
        self.stages: tuple[Stage, ...] = stages  # what stands round the whole call, outermost first
        self.hedge: Hedge | None = hedge
        self.staged: bool = bool(stages) or hedge is not None
        self.inside: Plan | None = inside  # the rest of a pipeline whose order is its owner's own: it guards the function, and we guard it
        self.innermost: Innermost | None = innermost  # put round the function by whoever takes it from the caller, see `inmost`
        self.hushed: bool = False  # True: whoever stands outside says what became of the call
        # A gate alone judges nothing: it has no rules, and passes on whatever comes out of the function.
        self.lone: bool = not speaks and breaker is None
        if self.lone and classifier is None:
            classifier = no_rules()
        self.classifier: ErrorClassifier = classifier if classifier is not None else default_classifier()
        self.effect: Effect = effect
        self.key_of: Callable[..., str | None] | None = key_of
        self.reference_of: Callable[..., str | None] | None = reference_of
        self.deadline: float = deadline
        self.marks_sent: bool = marks_sent
        self.speaks: bool = speaks  # False: a lone breaker passes the caller's errors on as they are
        self.inquiry: Inquiry | None = None
        self.ends: Ends = Ends()
        # An answer of one of these classes needs no second look.
        asks_results = retry is not None and retry.retry_result is not None
        self.plain: frozenset[type[object]] = frozenset() if asks_results else self.classifier.plain
        # An attempt given up sooner than this says nothing about the provider (law 4).
        self.slow_after: float = inf if breaker is None else breaker.slow_after
        # Whether it matters when a first attempt began, even if it simply fails.
        self.timed: bool = self.slow_after < inf or (retry is not None and retry.settings.max_elapsed < inf)
        # Nothing to find out about a call but its time: a lane may make the context itself.
        self.simple: bool = key_of is None and reference_of is None and effect is not Effect.IDEMPOTENT
        self.threshold: float = min(self.slow_after, deadline, inf if timeout is None else timeout.seconds)

    def sibling(self, *, effect: Effect | None = None, bare: bool = False) -> Plan:
        """Return a plan of the same guards, for calls of another effect or for one arm of a call.

        Args:
            effect: of the calls, if it is another.
            bare: leave off what stands round the whole call; others then count, and tell, how it ended.
        """
        other: Plan = Plan.__new__(Plan)
        for slot in Plan.__slots__:
            setattr(other, slot, getattr(self, slot))
        if effect is not None:
            other.effect = effect
            if effect is Effect.READ:  # it needs no key, and perhaps its arguments have none
                other.key_of = None
            other.simple = other.key_of is None and other.reference_of is None and effect is not Effect.IDEMPOTENT
        if bare:
            other.ends, other.stages, other.staged = Ends(), (), False
            if self.hedge is not None:
                other.hedge, other.inquiry, other.hushed = None, None, True
        return other

    @property
    def light(self) -> bool:
        """Return whether calls need no context of their own."""
        return (
            self.timeout is None
            and self.deadline == inf
            and self.key_of is None
            and self.reference_of is None
            and not self.marks_sent
            and self.effect is not Effect.IDEMPOTENT
        )

    def context(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any], inner: CallContext | None = None) -> CallContext:
        """Return what the code inside a call of these arguments shall know; its deadline is the whole call's.

        Args:
            now: the monotonic time.
            args: the call's arguments.
            kwargs: its keyword arguments.
            inner: a new context to write into, where a lane needs one of its own kind.

        Raises:
            MissingKeyError: if the call is IDEMPOTENT and no key can be found; nothing was sent.
            ConfigurationError: if `key` or `reference` gave something unusable.
        """
        outer = current.get()
        if inner is None:
            inner = CallContext(now + self.deadline, self.owner._clock)
        else:
            inner.deadline, inner.clock = now + self.deadline, self.owner._clock
        if outer is not None:
            inner.inherit(outer)
            if outer.deadline is not None and outer.deadline < now + self.deadline:
                inner.deadline = outer.deadline
        if self.key_of is not None:
            inner.base_key = checked_key(self._asked("key", self.key_of, args, kwargs))
        if inner.base_key is not None:
            inner.key = derive_key(inner.base_key, self.owner.name)
        elif self.effect is Effect.IDEMPOTENT:
            raise MissingKeyError(self._no_key())
        if self.reference_of is not None:
            inner.reference = _reference(self._asked("reference", self.reference_of, args, kwargs))
        return inner

    def _asked(self, argument: str, function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            error.add_note(f"finresilience: raised by {argument}= of {self.owner.name}; nothing was sent, so no money moved")
            raise

    def begins(self, context: CallContext) -> None:
        """Note that an attempt in this context may send from now on, where the code inside does not say so itself."""
        if context.outer is not None and self.speaks and not self.marks_sent and self.effect is not Effect.READ:
            mark_outside(context)

    def happened(self, context: CallContext) -> None:
        """Note in the calls outside that this one has happened, or may have."""
        if context.outer is not None and self.speaks and self.effect is not Effect.READ:
            moved_inside(context)

    def judge(self, error: Exception, *, sent: bool) -> Verdict:
        """Return the verdict on an attempt's error, knowing whether the request may have left."""
        verdict = self.classifier.error(error)
        if verdict.classification is not UNKNOWN and error.__context__ is not None:
            from finresilience.classify.evidence import in_hand_before

            for earlier in in_hand_before(error):
                told = self.classifier.told(earlier)
                if told is not None and told.classification is UNKNOWN:
                    verdict = told
        if sent or verdict.classification is not UNKNOWN or isinstance(error, UnknownOutcomeError):
            return verdict  # a guard further in says that nobody knows: our own mark says nothing about its calls
        if isinstance(error, ExpiredError) and error.left_running:
            return verdict
        return Verdict(RETRYABLE, counts_against_provider=verdict.counts_against_provider, retry_after=verdict.retry_after)

    def _no_key(self) -> str:
        return (
            f"{self.owner.name} is IDEMPOTENT but this call has no idempotency key.\n"
            "  Nothing was sent, so no money moved.\n"
            "  Give Pipeline(key=...) a function of the arguments, or wrap the call in `with idempotency_key(...)`."
        )


def _reference(reference: object) -> str | None:
    if reference is not None and not isinstance(reference, str):
        message = f"reference= must give your own reference as a str or None, not a {type(reference).__name__}"
        raise ConfigurationError(message)
    return reference
