"""One guarded call from its first doubt to its end: the part that sync and async share.

The fast lanes deal with a first attempt that simply works. Whatever else happens comes here: a `Call` is told what became
of each attempt, asks the cores, and knows what to do next. It never sleeps and never calls the function; the shells do.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from finresilience.context import CallContext, current, happenings, moved_inside
from finresilience.cores.join import End, Join
from finresilience.cores.probes import Probe
from finresilience.cores.retry import Stop, may_repeat
from finresilience.errors import (
    CircuitOpenError,
    DeadlineExceededError,
    ExpiredError,
    MissingKeyError,
    RefusedError,
)
from finresilience.events import CallAbandoned, RetryScheduled
from finresilience.outcome import (
    NON_RETRYABLE,
    UNKNOWN,
    Effect,
    Ok,
    Outcome,
    Refused,
    Verdict,
)
from finresilience.policies.decorate import not_a_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.cores.breaker import Permit
    from finresilience.policies.breaker import CircuitBreaker
    from finresilience.policies.gates import Gate
    from finresilience.policies.plan import Plan

T = TypeVar("T")

TRIES: Final = "__finresilience_tries__"  # on an error: (attempts that led to it, the number of that exhaustion)


@final
class Call:
    """What has become of one call so far.

    Args:
        plan: what guards it.
        fn: the function.
        args: its arguments.
        kwargs: its keyword arguments.
        started: when the call began, monotonic.
        context: the call's context, where a lane made one already.
    """

    __slots__ = (
        "_answer",
        "_carry",
        "_error",
        "_gates",
        "_ok",
        "_probing",
        "_timed",
        "_tried",
        "args",
        "attempt_started",
        "breaker",
        "context",
        "deadline",
        "fn",
        "holds",
        "join",
        "kwargs",
        "left_running",
        "limit",
        "permit",
        "plan",
        "refusal",
        "running",
        "started",
        "stop",
        "tries",
        "wait",
        "waits",
    )

    def __init__(
        self,
        plan: Plan,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        started: float,
        *,
        context: CallContext | None = None,
    ) -> None:
        self.plan: Plan = plan
        self.fn: Callable[..., Any] = fn
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.started: float = started
        self.attempt_started: float = started
        self.context: CallContext = context if context is not None else plan.context(started, args, kwargs)
        outer = current.get()
        inherited = inf if outer is None or outer.deadline is None else outer.deadline
        self.deadline: float = min(started + plan.deadline, inherited)
        self.limit: float = inf
        self.breaker: CircuitBreaker | None = None if plan.breaker is None else plan.breaker.choose(args, kwargs)
        self.permit: Permit | None = None
        self.holds: list[tuple[Gate, object]] = []  # what the attempt holds of the gates it passed
        self.running: bool = False  # whether an attempt is under way
        self.wait: float | None = 0.0  # seconds before the next attempt; None once the call has ended
        self.join: Join = Join(
            plan.effect, keyed=self.context.key is not None and (plan.key_of is not None or plan.effect is Effect.IDEMPOTENT)
        )
        self.tries: int = 0
        self._tried = happenings.number
        self._carry = 0.0
        self.waits: list[float] = []
        self.stop: Stop = Stop.ONCE
        self.left_running: bool = False  # a thread was left behind that may still send the call
        self._gates: tuple[Gate, ...] | None = None
        self._probing = False
        self._timed = True
        self._error: Exception | None = None
        self._answer: Any = None
        self._ok = False
        self.refusal: Refused | None = None
        if plan.retry is not None and not plan.hushed:  # an arm is not one call more
            plan.retry.deposit(started, succeeded=False)

    def resume(self, permit: Permit | None, limit: float, tried: int, *, timed: bool) -> None:
        """Take over a first attempt that a lane began: its permit, its limit, and the number of exhaustions when it began.

        A lane that has no use for the time did not look at the clock: then nobody knows how long the attempt ran.
        """
        self._timed = timed
        self.permit = permit
        self.limit = limit
        self._tried = tried
        self.running = True

    # --- before an attempt -----------------------------------------------------------------------------------------

    def admit(self) -> bool:
        """Return whether the next attempt may be made; if not, the call has ended."""
        now = self.plan.owner._now()
        if now >= self.deadline:
            return self._refuse(Refused(DeadlineExceededError, (self.plan.owner.name, now - self.deadline)), Stop.DEADLINE)
        if self.breaker is not None:
            answer = self.breaker.claim(now)
            if not isinstance(answer, tuple):
                self.permit = answer
            elif not self._inside_own_probe():
                return self._refuse(Refused(CircuitOpenError, answer), Stop.CIRCUIT)
            self._probing = isinstance(self.permit, Probe)
        self._begin(now)
        return True

    def gates(self) -> tuple[Gate, ...]:
        """Return the gates of this call; a family is asked once which of its own it is, before anything is sent."""
        if not self.plan.chosen:
            return self.plan.gates
        if self._gates is not None:
            return self._gates
        chosen: list[Gate] = []
        for gate in self.plan.gates:
            choose: Callable[..., Gate] | None = getattr(gate, "choose", None)
            chosen.append(gate if choose is None else choose(self.args, self.kwargs))
        self._gates = tuple(chosen)
        return self._gates

    def let_in(self) -> bool:
        """Return whether the attempt may be made, now that every gate has let it in; its time begins here, not in a queue."""
        now = self.plan.owner._now()
        if now >= self.deadline:
            return self.turned_away(DeadlineExceededError(self.plan.owner.name, now - self.deadline))
        self._begin(now)
        return True

    def turned_away(self, refusal: RefusedError) -> bool:
        """Take note that a gate refused the attempt: it was not sent, and it says nothing about the provider (law 5). Return False."""
        self._leave_gates()
        self._give_back()
        late = isinstance(refusal, DeadlineExceededError)
        return self._refuse(Refused(refusal), Stop.DEADLINE if late else Stop.REFUSED)

    def _begin(self, now: float) -> None:
        self.attempt_started = now
        self._timed = True
        timeout = self.plan.timeout
        self.limit = self.deadline if timeout is None else min(self.deadline, now + timeout.seconds)

    def _leave_gates(self) -> None:
        while self.holds:
            gate, hold = self.holds.pop()
            gate.leave(hold)

    def enter(self) -> CallContext:
        """Return the context of the attempt that begins now; each attempt has its own, so that a leftover of one marks no other."""
        call = self.context
        own = CallContext(None if self.limit == inf else self.limit, call.clock)
        own.inherit(call)
        own.outer = call.outer  # attempts stand beside each other, in what is outside of the call
        own.key, own.attempt = call.key, self.join.sent + 1
        self.context = own
        self._tried = happenings.number
        self.running = True
        if self._probing:
            own.probing = self.breaker
        self.plan.begins(own)
        return own

    def _inside_own_probe(self) -> bool:
        """Return whether this call is made by a probe of the same circuit: refused, it would end the probe, and the next, for ever."""
        outer = current.get()
        while outer is not None and outer.probing is not self.breaker:
            outer = outer.outer
        return outer is not None

    def _refuse(self, refusal: Refused, stop: Stop) -> bool:
        self.stop = stop
        self.refusal = refusal
        self.wait = None
        return False

    # --- after an attempt ------------------------------------------------------------------------------------------

    def returned(self, value: Any, *, late: bool = False) -> None:
        """Take the answer of an attempt; `late` where it came after its expiry: it wins, and counts as slow (law 3)."""
        plan, now = self.plan, self.plan.owner._now()
        if self.holds:
            self._leave_gates()
        self.running = False
        verdict = None
        if value.__class__ not in plan.plain:
            if hasattr(type(value), "__await__"):
                self.failed(not_a_value(plan.owner.name, value))
                return
            verdict = plan.retry.verdict_on(value) if plan.retry is not None else None
            verdict = verdict or plan.classifier.value(value)
        if verdict is not None:
            self._ended(verdict, now, None, value, type(value).__name__)
            return
        if self.breaker is not None and self.permit is not None:
            slow = late or now - self.attempt_started > plan.slow_after
            self.breaker.settle(self.permit, now, failed=False, slow=slow)
        self.join.sent += 1
        self._answer, self._ok = value, True
        self.wait = None

    def failed(self, error: Exception) -> None:
        """Take the error of an attempt."""
        plan, now = self.plan, self.plan.owner._now()
        if self.holds:
            self._leave_gates()
        self.running = False
        self.context.over = plan.marks_sent  # said before we look at the mark: what comes later must not be sent
        sent = self.context.sent or happenings.mark > self._tried  # a mark without a context may be ours
        if isinstance(error, RefusedError) and not sent:  # by a policy further in, or by the function: it was not sent (law 5)
            self._give_back()
            self._refuse(Refused(error), Stop.REFUSED)
            return
        verdict = plan.judge(error, sent=sent or not plan.marks_sent)
        if (sent and isinstance(error, RefusedError | MissingKeyError)) or _instead_of_cancellation(error):
            verdict = Verdict(UNKNOWN, counts_against_provider=False)  # it tells nothing of what was sent before
        if isinstance(error, ExpiredError) and error.cut and not self._fair(now):
            verdict = Verdict(verdict.classification, counts_against_provider=False)  # it had no fair chance to answer (law 4)
        if self.context.moved and plan.effect is not Effect.READ and verdict.classification is not UNKNOWN:
            # It is about a later step: an earlier one has happened, or may have.
            verdict = Verdict(UNKNOWN, counts_against_provider=verdict.counts_against_provider)
        self.left_running |= any(isinstance(link, ExpiredError) and link.left_running for link in (error, error.__cause__))
        tries, number = _tries_of(error)
        self.tries += (tries if number > self._tried else 1) - 1
        self._ended(verdict, now, error, None, type(error).__name__)

    def abandoned(self) -> None:
        """Take note that somebody outside cancelled the call, in an attempt or between two. Every permit goes back."""
        plan, now = self.plan, self.plan.owner._now()
        self._leave_gates()
        plan.ends.abandoned += 1
        if self.running and self.permit is not None and self.breaker is not None and now >= self.deadline and self._fair(now):
            self.breaker.settle(self.permit, now, failed=True, failure="ExpiredError")  # an inherited deadline, not a whim
            self.permit = None
        self._give_back()
        may_be_sent = self.join.end() is End.UNKNOWN or (self.running and (self.context.sent or not plan.marks_sent))
        self._error = None
        outer = self.context.outer
        if outer is not None and outer.won:
            return  # a hedge that another arm of the same call, under the same key, has beaten: how the call ended is known
        if may_be_sent and plan.effect is not Effect.READ and plan.speaks:
            moved_inside(self.context)
            attempt, ran = self.join.sent + 1, now - self.attempt_started if self._timed else None
            plan.owner._publish(CallAbandoned(name=plan.owner.name, attempt=attempt, ran=ran, reference=self.context.reference))

    @property
    def cut(self) -> bool:
        """Whether a deadline leaves the attempt less than its policy would give."""
        timeout = self.plan.timeout
        return timeout is None or self.limit < self.attempt_started + timeout.seconds

    def _fair(self, now: float) -> bool:
        return now >= self.attempt_started + self.plan.threshold

    def _give_back(self) -> None:
        if self.permit is not None and self.breaker is not None:
            self.breaker.release(self.permit)
        self.permit = None

    def _ended(self, verdict: Verdict, now: float, error: Exception | None, value: object, name: str) -> None:
        """Settle the permit, note the attempt, and decide what next. The permit is settled before any wait (law 6)."""
        self._settle(verdict, now, name, value if error is None else error)
        self.join.attempt(verdict, final=verdict.classification is not NON_RETRYABLE or _final(value if error is None else error))
        self.tries += 1
        self._error = error
        self._answer = value
        decision = self._decide(verdict, now)
        if isinstance(decision, Stop):
            self.stop = decision
            self.wait = None
            return
        self.wait, self._carry = decision
        self.waits.append(self.wait)
        self.plan.ends.retried += 1
        self.plan.owner._publish(
            RetryScheduled(
                name=self.plan.owner.name,
                attempt=self.join.sent,
                classification=verdict.classification,
                error_type=name,
                delay=self.wait,
                reference=self.context.reference,
            )
        )

    def _settle(self, verdict: Verdict, now: float, name: str, subject: object) -> None:
        permit, breaker = self.permit, self.breaker
        self.permit = None
        if permit is None or breaker is None:
            return
        failed = verdict.counts_against_provider
        if not failed and (verdict.classification is not NON_RETRYABLE or (isinstance(permit, Probe) and _reached_nobody(subject))):
            breaker.release(permit)  # not the provider's doing: it says nothing about it
            return
        slow = now - self.attempt_started > self.plan.slow_after
        breaker.settle(permit, now, failed=failed, slow=slow, failure=name, hint=verdict.retry_after)

    def _decide(self, verdict: Verdict, now: float) -> tuple[float, float] | Stop:
        plan = self.plan
        if plan.retry is None:
            return may_repeat(verdict, plan.effect) or Stop.ONCE
        try:
            decision = plan.retry.settings.decide(
                verdict,
                effect=plan.effect,
                attempt=self.join.sent,
                spent=self.tries,
                elapsed=now - self.started,
                left=self.deadline - now,
                u=plan.retry._chance(),
                carry=self._carry,
            )
        except Exception:  # a schedule of the caller's own: it must not take the place of what became of the call
            return Stop.SCHEDULE
        if isinstance(decision, Stop):
            return decision
        if self._probing and verdict.counts_against_provider:
            return Stop.PROBE
        if not plan.retry.withdraw(now):
            return Stop.BUDGET
        if self.context.budget is not None and not self.context.budget.spend():
            return Stop.TREE_BUDGET
        return decision

    # --- the end ---------------------------------------------------------------------------------------------------

    def outcome(self) -> Outcome[Any]:
        """Return how the call ended, and let go of everything it held."""
        error, answer = self._error, self._answer
        self._error = self._answer = None
        try:
            if self._ok:
                self.plan.ends.ok += 1
                self.plan.happened(self.context)
                if self.plan.retry is not None:
                    self.plan.retry.deposit(self.attempt_started, succeeded=True)
                return Ok(answer)
            from finresilience.policies.ending import unfortunate

            return unfortunate(self, error, answer)
        finally:
            del error, answer


def _final(subject: object) -> bool:
    from finresilience.classify.evidence import speaks_of_the_call

    return speaks_of_the_call(subject)


def _instead_of_cancellation(error: Exception) -> bool:
    from finresilience.classify.evidence import instead_of_cancellation

    return instead_of_cancellation(error)


def _tries_of(error: Exception) -> tuple[int, int]:
    """Read our mark past whatever the error's class does when it is asked for attributes."""
    try:
        tried: tuple[int, int] = object.__getattribute__(error, "__dict__").get(TRIES, (1, 0))
    except Exception:
        return (1, 0)
    return tried


def _reached_nobody(subject: object) -> bool:
    from finresilience.classify.evidence import reached_nobody

    return reached_nobody(subject)
