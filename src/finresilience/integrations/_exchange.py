"""One guarded request of a client: its attempts, what they send beside the caller's own, what they leave open, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from finresilience.classify.clients import UNSENT
from finresilience.classify.evidence import connecting, settled_phase
from finresilience.context import AttemptBudget, CallContext, _Scope, current_key, derive_key, mark_sent, outbound_headers, remaining
from finresilience.cores.retry import Stop
from finresilience.errors import ConfigurationError, ExpiredError, UnknownOutcomeError
from finresilience.outcome import UNKNOWN, Effect, Failed, Unknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from finresilience.integrations._rules import Rules
    from finresilience.outcome import Outcome
    from finresilience.policies.pipeline import Pipeline, Sibling

KEY_HEADER: Final = "Idempotency-Key"

_ENDLESS: Final = 10**9
_AT_ONCE: Final = 0.001  # seconds; a limit of zero would mean "do not block" to a socket
_MOMENT: Final = 0.05  # seconds; by so much a client gives up before the attempt does
_STREAM: Final = "it was not tried again: its body is a stream, which cannot be sent twice"


@final
class CallNotes:
    """What the guard did for one response: how many attempts, of what effect, how the call ended, and whether the body was lost.

    `ended` is `ok`, `declined`, `failed` or `fallback`. `body_lost` is True where the status was a clear word, and the connection broke
    while the body came: then the body is empty.
    """

    __slots__ = ("attempts", "body_lost", "effect", "ended")

    def __init__(self, *, attempts: int, effect: Effect, ended: str, body_lost: bool = False) -> None:
        self.attempts: int = attempts
        self.effect: Effect = effect
        self.ended: str = ended
        self.body_lost: bool = body_lost

    def __repr__(self) -> str:
        """Show all of it: there is nothing secret in it."""
        lost = ", body lost" if self.body_lost else ""
        return f"<CallNotes {self.ended}, {self.effect.value}, attempts {self.attempts}{lost}>"


def notes_of(response: object) -> CallNotes | None:
    """Return what the guard noted on a response of any of the clients, or None where no guard saw it."""
    extensions = getattr(response, "extensions", None)
    notes = extensions.get("finresilience") if isinstance(extensions, dict) else getattr(response, "finresilience_notes", None)
    return notes if isinstance(notes, CallNotes) else None


@final
class Exchange(_Scope):
    """One guarded request: all its attempts, and whatever they left open. Open it with `with`; use it once."""

    __slots__ = (
        "_guard",
        "_key",
        "_left",
        "_marks",
        "_outer",
        "_step",
        "_stop",
        "attempts",
        "body_lost",
        "effect",
        "ended",
        "opened",
        "rules",
    )

    def __init__(self, rules: Rules, guard: Pipeline | Sibling, effect: Effect, *, key: str | None, step: str, stoppable: bool) -> None:
        super().__init__()
        self.rules: Rules = rules
        self._guard = guard
        self._key = key
        self._step = step
        self._left: AttemptBudget | None = AttemptBudget(_ENDLESS) if stoppable else None
        self._outer: AttemptBudget | None = None
        self._stop: str | None = None  # why it must not be sent again
        self._marks = guard._plan.marks_sent and effect is not Effect.READ
        self.effect: Effect = effect
        self.attempts: int = 0
        self.body_lost: bool = False
        self.opened: list[Any] = []  # responses that nobody has closed yet
        self.ended: bool = False

    def _changed(self, context: CallContext) -> None:
        if self._key is not None:
            context.base_key = context.key = self._key
        if self._left is not None:
            self._outer = context.budget
            if self._outer is not None:
                self._left.left = self._outer.left
            context.budget = self._left

    # --- the whole call --------------------------------------------------------------------------------------------

    def run(self, attempt: Callable[[Any], Any], request: object) -> Any:
        """Make the call and return its response, or raise as the laws of outcomes say. What stays open is in `opened`."""
        try:
            with self:
                outcome = self._guard.outcome(attempt, request)
            return self._settled(outcome)
        finally:
            self._finish()

    async def arun(self, attempt: Callable[[Any], Awaitable[Any]], request: object) -> Any:
        """Make the call and return its response, or raise as the laws of outcomes say. What stays open is in `opened`."""
        try:
            with self:
                outcome = await self._guard.aoutcome(attempt, request)
            return self._settled(outcome)
        finally:
            self._finish()

    def _settled(self, outcome: Outcome[Any]) -> Any:
        try:
            if self._stop is not None:
                _say_why(outcome, self._stop)
            ended = "fallback" if getattr(outcome, "fallback", None) is not None else type(outcome).__name__.lower()
            return self._noted(outcome.unwrap(), ended)
        finally:
            del outcome  # the traceback keeps this frame

    def _noted(self, response: Any, ended: str) -> Any:
        if not isinstance(response, self.rules.kind):
            message = (
                f"{self._guard.name} ended {ended} with a {type(response).__name__} where its client needs a {self.rules.kind.__name__}: "
                "let its fallback, or its inquiry, give a response of the client"
            )
            raise ConfigurationError(message)
        notes = CallNotes(attempts=self.attempts, effect=self.effect, ended=ended, body_lost=self.body_lost)
        if hasattr(response, "extensions"):
            response.extensions = {**response.extensions, "finresilience": notes}
        else:
            response.finresilience_notes = notes
        self.opened = [other for other in self.opened if other is not response]
        return response

    def _finish(self) -> None:
        self.ended = True
        if self._outer is not None:
            self._outer.left -= max(0, self.attempts - 1)

    # --- one attempt -----------------------------------------------------------------------------------------------

    def begins(self, given: Mapping[str, Any]) -> dict[str, str]:
        """Count an attempt, and return the headers that it sends beside those that the caller gave, or in place of an empty key."""
        self.attempts += 1
        told = outbound_headers() if self.rules.send_headers else {}
        headers = {name: value for name, value in told.items() if name != KEY_HEADER and name not in given}
        key = current_key()
        if self.effect is Effect.IDEMPOTENT and self._key is None and key is not None and self.rules.key_header is not None:
            headers[self.rules.key_header] = derive_key(key, self._step)
        return headers

    def leaves(self) -> None:
        """Say that the request leaves now, where the pipeline goes by such marks."""
        if self._marks:
            mark_sent()

    @property
    def marks(self) -> bool:
        """Whether the pipeline goes by marks, so that each request must be marked as it leaves."""
        return self._marks

    def used_up(self, why: str = _STREAM) -> None:
        """Take note that the request cannot be, or must not be, sent again."""
        if self._left is not None:
            self._left.left = 0
            self._stop = why

    def keep(self, answer: Any, response: Any) -> Any:
        """Return an attempt's answer; whatever of it is still open is closed in the end, unless it is the answer of the call."""
        if answer is response or not getattr(answer, "is_closed", True):
            self.opened.append(answer)
        return answer

    def judged(self, response: object) -> bool:
        """Return whether the answer is no ordinary answer, so that it may be thrown away for a better one."""
        plan = self._guard._plan
        return (plan.retry is not None and plan.retry.verdict_on(response) is not None) or plan.classifier.value(response) is not None

    def wants_body(self, kind: str | None, length: str | None) -> bool:
        """Return whether an ordinary answer's body belongs to the answer, and is short enough to be read before the guard ends."""
        plan = self._guard._plan
        if self.effect is Effect.READ and (plan.retry is None or plan.retry.retry_result is None):
            return False
        if self.rules.read_up_to == 0 or (kind is not None and kind.lower().startswith("text/event-stream")):
            return False
        return self.short(length) or length is None

    def short(self, length: str | None) -> bool:
        """Return whether a body says that it is short enough to be read inside the guard."""
        return self.rules.read_up_to > 0 and length is not None and length.isdigit() and int(length) <= self.rules.read_up_to

    def within(self, error: Exception, limit: float | None) -> Exception:
        """Return what an attempt failed with: an expiry, where it was we who cut its time and the client only noticed."""
        left = remaining()
        if limit is None or left is None or left > 2 * _AT_ONCE or not_sent(error):
            return error
        if isinstance(error, ExpiredError) or self._guard._plan.classifier.error(error).classification is not UNKNOWN:
            return error
        expired = self.expired(limit)
        expired.__cause__ = error
        return expired

    def expired(self, limit: float) -> ExpiredError:
        """Return the error of an attempt whose time is over; whether it was fair, the call reckons itself."""
        return ExpiredError(self._guard.name, limit, cut=True)


def not_sent(error: BaseException) -> bool:
    """Return whether an attempt surely ended before anything of its request was written."""
    return settled_phase(error) in UNSENT or connecting(error)


def _say_why(outcome: Outcome[Any], why: str) -> None:
    """Put the true reason where the call could only say that its budget was spent."""
    if isinstance(outcome, Unknown):
        error = outcome.error
        if isinstance(error, UnknownOutcomeError) and Stop.TREE_BUDGET.value in error.held_back:
            error.held_back = f"{why[0].upper()}{why[1:]}."
    elif isinstance(outcome, Failed) and outcome.value is None:
        outcome.error.add_note(f"finresilience: {why}")


def cut(seconds: float | None, left: float | None, *, margin: bool = False) -> float | None:
    """Return a client's limit, made no longer than what is left; with `margin`, a moment shorter, so that the client speaks first."""
    if left is None:
        return seconds
    if margin:
        left -= min(_MOMENT, left / 4)
    return max(_AT_ONCE, left if seconds is None else min(seconds, left))


@final
class LiveTimeouts(dict[str, float | None]):
    """A client's limits, each cut to what is left at the moment it is asked for. After the attempt, they are the client's own again.

    Args:
        own: the client's limits by phase.
        phases: those that are cut.
        margin: whether the client shall give up a moment before the attempt does, so that its error says in which phase.
    """

    def __init__(self, own: Mapping[str, float | None], phases: frozenset[str], *, margin: bool) -> None:
        super().__init__(own)
        self._phases = phases
        self._margin = margin
        self.over: bool = False

    def get(self, phase: str, default: Any = None) -> Any:
        """Return how long this phase may take from now on."""
        seconds: Any = super().get(phase, default)
        return seconds if self.over or phase not in self._phases else cut(seconds, remaining(), margin=self._margin)
