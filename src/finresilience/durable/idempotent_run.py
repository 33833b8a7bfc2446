"""One call that holds a key: what it knows, what it tells the store, and what its caller gets. Sync and async share this part."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from finresilience.context import CallContext, current, happenings, idempotency_key
from finresilience.crash_points import declare
from finresilience.durable.errors import FinishedOtherwiseError, StaleTokenError
from finresilience.durable.idempotent_answers import AS_VALUE, NotKeptError
from finresilience.durable.idempotent_core import Act, Begin, Lease
from finresilience.durable.idempotent_events import AnswerNotKept, ClaimLost, HeirAsked, StoreNotTold
from finresilience.errors import AttemptOverError, ConfigurationError, UnknownOutcomeError
from finresilience.outcome import NON_RETRYABLE, Declined, Found, Ok, Refused, Unknown
from finresilience.policies.shells import settled

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

    from finresilience.durable.idempotent_operation import Idempotent
    from finresilience.durable.records import Claimed
    from finresilience.outcome import Outcome

CLAIMED: Final = declare("idempotent.claimed", "the key is ours, and the body has not begun")
ASKED: Final = declare("idempotent.asked", "an heir knows what the provider says, and has done nothing about it")
DONE: Final = declare("idempotent.done", "the body is done, and the store does not know it yet")
INTERRUPTED: Final = declare("idempotent.interrupted", "the body was stopped from outside, and the store does not know it yet")
STORED: Final = declare("idempotent.stored", "the store knows how it ended, and the caller does not")

PARTING: Final = 5.0  # seconds that telling the store may take, whoever is in a hurry meanwhile
PAUSES: Final = (0.05, 0.2)  # seconds before telling it again, where it did not answer

_SAID: Final = {Begin.FOUND: "found", Begin.RUN: "not_found", Begin.DOUBT: "still_unknown", Begin.LET_GO: "failed"}


@final
@dataclass(frozen=True, slots=True)
class Deed:
    """What the store is to be told, and how."""

    act: Act
    write: Callable[[], Any]


@final
class CurrentClaim:
    """The key that the running body holds. See `current_claim`."""

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def fence(self) -> int:
        """The fencing token: it only grows, from holder to holder. Hand it to whatever can refuse old ones."""
        return self._run.claimed.token.fence

    @property
    def takeovers(self) -> int:
        """How many holders before this one did not end well."""
        return self._run.claimed.takeovers

    @property
    def recovery_point(self) -> str | None:
        """The last recovery point that a holder before this one noted, or None."""
        return self._run.claimed.recovery_point

    @property
    def data(self) -> bytes:
        """What was noted with it."""
        return self._run.op.answers.opened(self._run.claimed.data, self._run.at)

    def advance(self, recovery_point: str, *, data: bytes = b"") -> None:
        """Note how far the work is, for an heir, and return once it is stored. In an async function, await `aadvance`.

        Raises:
            StaleTokenError: if somebody else holds the key by now: stop, and send nothing.
        """
        if self._run.op.is_async:
            message = "the store is async: await current_claim().aadvance(...)"
            raise ConfigurationError(message)
        self._noted(recovery_point, data)()

    async def aadvance(self, recovery_point: str, *, data: bytes = b"") -> None:
        """Note how far the work is, for an heir, and return once it is stored: `advance`, awaited."""
        if not self._run.op.is_async:
            message = "the store is a sync one: call current_claim().advance(...)"
            raise ConfigurationError(message)
        await self._noted(recovery_point, data)()

    def _noted(self, recovery_point: str, data: bytes) -> Callable[[], Any]:
        run = self._run
        kept = run.op.answers.sealed(data, run.at) if data else data
        return partial(run.op.store.advance, run.claimed.token, recovery_point, data=kept)

    def __repr__(self) -> str:
        return f"<CurrentClaim of {self._run.op.name}, fence {self.fence}, {self.takeovers} takeovers>"


held: Final[ContextVar[CurrentClaim | None]] = ContextVar("finresilience.held", default=None)


def current_claim() -> CurrentClaim:
    """Return the key that the running `@idempotent` function holds; also in its `recover=`.

    Raises:
        ConfigurationError: outside of one.
    """
    claim = held.get()
    if claim is None:
        message = "no @idempotent function is running here: current_claim() is for its body, and for what that calls"
        raise ConfigurationError(message)
    return claim


@final
class Run:
    """What has become of one claim so far. Use it as a context: the body runs inside."""

    __slots__ = (
        "_began",
        "_heard",
        "_held",
        "_scope",
        "_tried",
        "args",
        "at",
        "begin",
        "claimed",
        "context",
        "forced",
        "kwargs",
        "lease",
        "lost",
        "op",
    )

    def __init__(self, op: Idempotent[Any], claimed: Claimed, asked_at: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.op: Idempotent[Any] = op
        self.claimed: Claimed = claimed
        self.at: tuple[str, str] = (claimed.token.scope, claimed.token.key)
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.lease: Lease = Lease(claimed.lease, asked_at)
        self.begin: Begin = op.core.begin(claimed)
        self.forced: Act | None = None  # what becomes of the key, where no outcome says so
        self.lost: bool = False
        self._began = False
        self._heard = True  # whether the store knows how it ended
        self._tried = happenings.number
        self._scope = idempotency_key(claimed.token.key)
        self._held: Token[CurrentClaim | None] | None = None
        self.context: CallContext | None = None

    def __enter__(self) -> Run:
        self._scope.__enter__()
        self.context = current.get()
        self._held = held.set(CurrentClaim(self))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        if self._held is not None:
            with suppress(ValueError):  # closed from another context, as a coroutine may be
                held.reset(self._held)
        self._scope.__exit__(kind, error, traceback)

    @property
    def sent(self) -> bool:
        """Whether the provider may have seen something of this call."""
        if not self._began:
            return False
        context = self.context
        return context is None or context.sent or context.moved or happenings.mark > self._tried

    # --- before the body --------------------------------------------------------------------------------------------------

    def begins(self) -> None:
        """Take note that the body begins now."""
        self._began = True

    def asked(self, answer: object) -> Begin:
        """Take what `recover=` returned, or what it raised, and return what to do."""
        self.begin = self.op.core.asked(answer)
        self._tell_heir(_SAID[self.begin])
        return self.begin

    def looked(self, age: float | None) -> Begin:
        """Take the age of the key, and return what to do."""
        self.begin = self.op.core.looked(age)
        self._tell_heir("rerun" if self.begin is Begin.RUN else "still_unknown")
        return self.begin

    def _tell_heir(self, answer: str) -> None:
        self.op.tell(HeirAsked(name=self.op.name, answer=answer, takeovers=self.claimed.takeovers))

    def instead(self, answer: object = None) -> Outcome[Any]:
        """Return the outcome of a call whose body is not run."""
        if self.begin is Begin.FOUND and isinstance(answer, Found):
            verdict = self.op.pipeline._plan.classifier.value(answer.value)  # noqa: SLF001 - the same rules as for the body
            if verdict is None:
                return Ok(answer.value)
            if verdict.classification is NON_RETRYABLE:
                return Declined(None, value=answer.value, name=self.op.name)
        if self.begin is Begin.LET_GO:
            self.forced = Act.RELEASE  # of an heir: the next one inherits it, and asks again
        cause = answer if isinstance(answer, Exception) else None
        return Unknown(self._in_doubt("an earlier holder of its key did not finish, and may have sent it", cause))

    # --- the claim is lost ------------------------------------------------------------------------------------------------

    def not_renewed(self, error: Exception) -> None:
        """Tell that the store refused to renew the lease, or did not answer."""
        name, fence = self.op.name, self.claimed.token.fence
        if isinstance(error, StaleTokenError):
            self.op.tell(ClaimLost(name=name, doing="renew", fence=fence, happened=False))
        else:
            self.op.tell(StoreNotTold(name=name, doing="renew", fence=fence, error_type=type(error).__name__))

    def lose(self) -> bool:
        """Take note that the claim is over, so that `mark_sent` refuses; return whether the body must be stopped."""
        self.lost = True
        if self.context is not None:
            self.context.over = True  # said before we look at the mark: what comes later must not be sent
        return self.op.core.lost(sent=self.sent, marks_sent=self.op.marks_sent)

    def stopped(self) -> Outcome[Any]:
        """Return the outcome of a body that was stopped because its claim was lost."""
        if self.sent:
            return Unknown(self._in_doubt("its claim ran out or was taken over while it was under way"))
        return Refused(AttemptOverError())

    def _in_doubt(self, happened: str, cause: BaseException | None = None) -> UnknownOutcomeError:
        error = UnknownOutcomeError(
            self.op.name,
            attempts=self.claimed.takeovers + int(self._began),
            happened=happened,
            held_back="It was not run again by this call.",
        )
        error.__cause__ = cause
        return error

    # --- after the body ---------------------------------------------------------------------------------------------------

    def deed(self, outcome: Outcome[Any]) -> Deed:
        """Return what the store is to be told."""
        act = self.forced or self.op.core.ended(outcome, provisional=self._stands_in(outcome))
        store, token, most = self.op.store, self.claimed.token, self.op.store.max_response
        try:
            if act is Act.COMPLETE and isinstance(outcome, Ok):
                return Deed(act, partial(store.complete, token, self.op.answers.value(outcome.value, self.at, most), status=AS_VALUE))
            if act is Act.FAIL and isinstance(outcome, Declined):
                data, status = self.op.answers.decline(outcome, self.at, most)
                return Deed(act, partial(store.fail, token, data, status=status))
        except NotKeptError as error:
            name = type(error.__cause__).__name__
            self.op.tell(AnswerNotKept(name=self.op.name, fence=token.fence, error_type=name))
            return self._doubt(
                f"{'it happened' if isinstance(outcome, Ok) else 'it was declined'}, but its answer could not be kept: {name}"
            )
        if act is Act.RELEASE:
            return Deed(act, partial(store.release, token))
        return self._doubt(_why(outcome))

    def parting(self) -> Deed:
        """Return what the store is to be told of a call that somebody outside has stopped."""
        if self.op.core.interrupted(sent=self.sent) is Act.RELEASE:
            return Deed(Act.RELEASE, partial(self.op.store.release, self.claimed.token))
        return self._doubt("it was interrupted after it may have been sent")

    def _doubt(self, reason: str) -> Deed:
        return Deed(Act.DOUBT, partial(self.op.store.mark_indeterminate, self.claimed.token, reason=reason))

    def _stands_in(self, outcome: Outcome[Any]) -> bool:
        if self.context is not None and self.context.stood_in:
            return True
        if self.op.provisional is None or not isinstance(outcome, Ok):
            return False
        try:
            return bool(self.op.provisional(outcome.value))
        except Exception:
            return True  # nobody can say that it is not

    def not_heard(self, deed: Deed, error: Exception, outcome: Outcome[Any] | None) -> None:
        """Take note that the store refused, or did not answer: the caller's own end comes through all the same."""
        self._heard = False
        name, fence = self.op.name, self.claimed.token.fence
        if isinstance(error, StaleTokenError | FinishedOtherwiseError):
            self.lost = True
            happened = isinstance(outcome, Ok)
            self.op.tell(ClaimLost(name=name, doing=deed.act.value, fence=fence, happened=happened))
        else:
            self.op.tell(StoreNotTold(name=name, doing=deed.act.value, fence=fence, error_type=type(error).__name__))

    def result(self, deed: Deed, outcome: Outcome[Any]) -> Any:
        """Return or raise what the caller gets: his own answer, or his own error, whatever the store said."""
        try:
            if self.lost and deed.act is Act.RELEASE and not self._heard and not isinstance(outcome, Ok):
                # We did nothing, but the key is somebody else's: he may have done it, or may be doing it.
                outcome = Unknown(self._in_doubt("its claim was taken over", getattr(outcome, "error", None)))
            if not self._heard:
                self._note(outcome)
            return settled(outcome)
        finally:
            del outcome  # the error's traceback keeps this frame

    def _note(self, outcome: Any) -> None:
        if isinstance(outcome, Ok):
            return
        said = "the claim was not ours any more" if self.lost else "the store was not told how this ended, and the claim will run out"
        with suppress(Exception):  # an error that takes no note is raised without one
            outcome.error.add_note(f"finresilience: {self.op.name}: {said}")


def _why(outcome: Outcome[Any]) -> str:
    """Return the reason that stands in the record, for people: classes only."""
    if isinstance(outcome, Unknown):
        error = outcome.error
        return f"outcome unknown: {type(error.__cause__ or error).__name__}"
    return "its answer stands in for the provider's own, or hands on an unknown one"
