"""What is one idempotent operation? Its settings, its keys, and what a caller is told who does not get one."""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NotRequired, TypedDict, TypeVar, cast

from finresilience._checks import name_of, positive_count, refuse
from finresilience.context import CallContext, current, moved_inside, remaining
from finresilience.durable.codecs import checked_codec
from finresilience.durable.idempotent_answers import AS_VALUE, Answers
from finresilience.durable.idempotent_core import IdempotentCore, terms_of
from finresilience.durable.idempotent_errors import (
    KeyIndeterminateError,
    KeyInProgressError,
    KeyMismatchError,
    ReplayedDeclineError,
)
from finresilience.durable.idempotent_events import AnswerReplayed, log_idempotency_event
from finresilience.durable.idempotent_question import NOTHING_SENT, Asker, Question, checked_question
from finresilience.durable.idempotent_shells import awork, renew, work
from finresilience.durable.records import Indeterminate, InProgress, KeyState, Mismatch, Replay, text_of
from finresilience.errors import ConfigurationError, UnknownOutcomeError
from finresilience.outcome import NON_RETRYABLE
from finresilience.policies.base import Policy
from finresilience.policies.decorate import Kind, kind_of
from finresilience.policies.guarding import checked_rules
from finresilience.policies.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anyio import CancelScope
    from typing_extensions import Unpack

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.durable.codecs import Codec
    from finresilience.durable.idempotent_answers import Seal
    from finresilience.durable.idempotent_run import Run
    from finresilience.durable.records import Claim, Record
    from finresilience.events import Event, Listener
    from finresilience.outcome import Outcome

R = TypeVar("R")

A_WEEK: Final = timedelta(days=7)


class Options(TypedDict):
    """What `idempotent` takes beside the store and the codec; see there."""

    key: Callable[..., str | None]
    scope: Callable[..., str]
    fingerprint: Callable[..., object]
    lease: NotRequired[float | timedelta]
    keep: NotRequired[float | timedelta]
    deadline: NotRequired[float | timedelta | None]
    wait: NotRequired[float | timedelta]
    recover: NotRequired[Callable[..., Any] | None]
    rerun_within: NotRequired[float | timedelta | None]
    classify: NotRequired[ErrorClassifier | None]
    declines: NotRequired[Codec[Any] | None]
    provisional: NotRequired[Callable[[Any], bool] | None]
    redact: NotRequired[Callable[[Any], Any] | None]
    seal: NotRequired[Seal | None]
    marks_sent: NotRequired[bool]
    reference: NotRequired[Callable[..., str | None] | None]
    name: NotRequired[str | None]
    owner: NotRequired[str]
    clock: NotRequired[Clock | None]
    listeners: NotRequired[Iterable[Listener]]


class Idempotent(Policy, Generic[R]):
    """One operation and its keys. Made by `idempotent`; a decorator for one function."""

    is_async: ClassVar[bool] = False
    core_of: ClassVar[type[IdempotentCore]] = IdempotentCore  # what decides

    def __init__(self, store: Any, *, codec: Codec[R], **options: Unpack[Options]) -> None:
        told = options.get("name")
        listeners = options.get("listeners", (log_idempotency_event,))
        super().__init__("idempotent" if told is None else told, clock=options.get("clock"), listeners=listeners)
        self._named = told is not None
        self._options = options
        self.store: Any = store
        self.recover: Any = options.get("recover")
        self.provisional: Callable[[Any], bool] | None = options.get("provisional")
        self.marks_sent: bool = options.get("marks_sent", False)
        self._codec = checked_codec(codec)
        self._asker: Asker | None = None
        self._check()
        self.core: IdempotentCore = self.core_of(
            terms_of(
                lease=options.get("lease", 60.0),
                keep=options.get("keep", A_WEEK),
                deadline=options.get("deadline"),
                wait=options.get("wait", 0.0),
                rerun_within=options.get("rerun_within"),
                asks=self.recover is not None,
            )
        )

    def _check(self) -> None:
        options = self._options
        for argument in ("key", "scope", "fingerprint"):
            if argument not in options:
                message = f"@idempotent needs {argument}=: a default for it could pay twice, or give one caller another's answer"
                raise ConfigurationError(message)
            checked_question(argument, options[argument])
        if not isinstance(self.marks_sent, bool):
            refuse("marks_sent", self.marks_sent, "True or False")
        for argument in ("provisional", "redact"):
            function: Any = options.get(argument)
            if function is not None and (not callable(function) or kind_of(function) is not Kind.SYNC):
                refuse(argument, function, "a plain function of the answer")
        seal: Any = options.get("seal")
        if seal is not None and not (isinstance(seal, tuple) and len(seal) == 2 and all(callable(part) for part in seal)):
            refuse("seal", seal, "two functions, (encrypt, decrypt), each of the bytes and of what they belong to")
        if options.get("declines") is not None:
            checked_codec(cast("Codec[Any]", options.get("declines")))
        text_of("owner", options.get("owner", ""), empty=True)
        checked_rules(options.get("classify"))

    # --- one function -------------------------------------------------------------------------------------------------------

    def _guarding(self, fn: Callable[..., Any]) -> None:
        """Make ready to guard `fn`, and no other."""
        if self._asker is not None:
            message = f"{self.name} guards a function already: make an @idempotent for each, or they would answer for one another"
            raise ConfigurationError(message)
        options = self._options
        name = self.name if self._named else _name_from(fn)
        self.name: str = name
        self.answers: Answers = Answers(name, self._codec, options.get("declines"), options.get("seal"), options.get("redact"))
        own_rules = _rules()
        rules = options.get("classify")
        self.pipeline: Pipeline = Pipeline(
            name,
            classify=own_rules | (_payments() if rules is None else rules),
            deadline=self.core.terms.deadline,
            reference=options.get("reference"),
            marks_sent=self.marks_sent,
            clock=options.get("clock"),
            listeners=self._publish.listeners,
        )
        self._asker = Asker(name, options["key"], options["scope"], options["fingerprint"], fn)

    # --- what the shells ask ------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> Clock:
        """The clock that tells it the time now."""
        return self._clock

    def now(self) -> float:
        """Return the monotonic time."""
        return self._now()

    def tell(self, event: Event) -> None:
        """Hand an event to whoever listens."""
        self._publish(event)

    def question(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Question:
        """Return what the store is to be asked for this call."""
        assert self._asker is not None  # noqa: S101 - it is called by the function that it guards
        return self._asker.ask(args, kwargs)

    def asks(self, question: Question) -> Any:
        """Claim the key: one statement, whatever is known of it."""
        lease, owner = self.core.terms.lease, self._options.get("owner", "")
        try:
            return self.store.claim(self.name, question.key, fingerprint=question.fingerprint, lease=lease, owner=owner)
        except Exception as error:
            error.add_note(f"finresilience: {self.name} could not claim its key; {NOTHING_SENT}")
            raise

    def patience(self, claim: Claim, waited: float, looks: int) -> float | None:
        """Return the seconds to wait before the key is asked for again, or None if this is the answer."""
        if not isinstance(claim, InProgress):
            return None
        return self.core.wait(claim.retry_after, waited=waited, looks=looks, left=remaining())

    def told(self, claim: Claim) -> Any:
        """Return or raise what a caller gets who cannot have the key."""
        if isinstance(claim, Replay):
            self._publish(AnswerReplayed(name=self.name, state=claim.record.state))
            if not claim.failed:
                self._moved()
            return self.answers.replayed(claim.record)
        if isinstance(claim, Mismatch):
            raise KeyMismatchError(self.name, claim.state)
        self._moved()
        if isinstance(claim, InProgress):
            raise KeyInProgressError(self.name, claim.retry_after)
        raise self._indeterminate(cast("Indeterminate", claim))

    def _indeterminate(self, claim: Indeterminate) -> UnknownOutcomeError:
        error = UnknownOutcomeError(
            self.name,
            attempts=claim.record.takeovers + 1,
            happened="an earlier call under this idempotency key ended without a known outcome",
            held_back="It was not run again, because nobody has settled its key since: resolve() does, by evidence.",
        )
        error.__cause__ = KeyIndeterminateError(self.name, claim.record)
        return error

    def _moved(self) -> None:
        """Note in the calls outside that this one has happened, or may have: what they raise later tells nothing of it."""
        seen = CallContext(None, self._clock)
        seen.outer = current.get()
        moved_inside(seen)

    def worked(self, run: Run, fn: Callable[..., Any]) -> Outcome[Any]:
        """Run the body of a plain function, or ask."""
        return work(run, fn)

    async def aworked(self, run: Run, fn: Callable[..., Any]) -> Outcome[Any]:
        """Run the body of an async function, or ask."""
        return await awork(run, fn)

    async def renewed(self, run: Run, scope: CancelScope) -> None:
        """Renew the lease while the body runs."""
        await renew(run, scope)

    # --- for people -----------------------------------------------------------------------------------------------------------

    def _at(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, str]:
        return self.name, self.question(args, kwargs).key

    def _settling(self, record: Record, to: KeyState, value: Any, evidence: str) -> partial[Any]:
        if record.scope != self.name:
            refuse("record", record, f"a record of {self.name}, as its find() or unsettled() returned it")
        completed = to is KeyState.COMPLETED
        data = self.answers.value(value, (record.scope, record.key), self.store.max_response) if completed else b""
        return partial(self.store.resolve, record, to, data, evidence=evidence, status=AS_VALUE if completed else "")

    def _purging(self, limit: int) -> partial[Any]:
        return partial(self.store.purge, older_than=self.core.terms.keep, scope=self.name, limit=positive_count("limit", limit))


def _name_from(fn: Callable[..., Any]) -> str:
    """Return "module.function", the same in every process; functions that cannot be told apart by that must be named."""
    told = getattr(fn, "__qualname__", None)
    if told is None or "<lambda>" in told:
        message = f"a {type(fn).__name__} has no name of its own, and would share its keys with others of its kind: give @idempotent name="
        raise ConfigurationError(message)
    module = fn.__module__
    if module == "__main__":  # run as a script here, and imported by a worker there: one operation
        main: Any = sys.modules[module]
        spec = getattr(main, "__spec__", None)
        module = spec.name if spec is not None else PurePath(getattr(main, "__file__", module)).stem
    return name_of("name", f"{module}.{told}")


def _rules() -> ErrorClassifier:
    """Return what our own errors mean to a body that calls another idempotent function."""
    from finresilience.classify.classifier import ErrorClassifier

    return ErrorClassifier({ReplayedDeclineError: NON_RETRYABLE, KeyMismatchError: NON_RETRYABLE})


def _payments() -> ErrorClassifier:
    from finresilience.classify.payments import payments_classifier

    return payments_classifier()
