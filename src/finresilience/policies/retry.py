"""Retry: a few more attempts where another attempt is safe, and only there."""

from __future__ import annotations

from math import inf
from threading import Lock
from typing import TYPE_CHECKING, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.cores.backoff import FullJitter
from finresilience.cores.retry import RetrySettings
from finresilience.events import log_event
from finresilience.outcome import RETRYABLE, Effect, Verdict
from finresilience.policies.base import chance
from finresilience.policies.guarding import Guarding, checked_rules
from finresilience.policies.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.cores.backoff import Backoff
    from finresilience.cores.budget import Budget
    from finresilience.events import Listener
    from finresilience.policies.attempts import Attempts

_budgets = Lock()  # one for all: a budget may be shared by several policies, and a decision takes a microsecond


def deposit(budget: Budget | None, now: float, *, succeeded: bool) -> None:
    """Note in the budget, if there is one, a call that begins or that succeeded, whichever it wants to hear of."""
    if budget is not None and budget.on_success == succeeded:
        with _budgets:
            budget.deposit(now)


def withdraw(budget: Budget | None, now: float) -> bool:
    """Take one attempt more from the budget; True where there is none to ask."""
    if budget is None:
        return True
    with _budgets:
        return budget.withdraw(now)


@final
class Retry(Guarding):
    """Try again what is known not to have happened, and what may safely happen twice; nothing else.

    RETRYABLE errors are tried again whatever the effect. UNKNOWN ones only where the effect is READ or IDEMPOTENT*. The wait is
    `Retry-After` where the provider gave one. An attempt that could not finish before the deadline is not begun.

    Args:
        attempts: how many in all, the first included. Required: too many turn an incident into an outage.
        backoff: the schedule of waits; `FullJitter(0.1, cap=5.0)` by default.
        max_elapsed: begin no attempt later than this many seconds after the call began.
        max_retry_after: the longest `Retry-After` that is waited for, in seconds; longer ones are cut to it.
        budget: a `TokenBudget` or `RatioBudget`; give several policies the same one to share it.
        retry_result: return True for an answer that means "not applied, ask again".
        effect: what happens if the call is carried out twice, where the policy stands alone.
        classify: rules of your own, where the policy stands alone.
        name: shown in notes, errors and events.
        clock: tells the time.
        chance: numbers in [0, 1) for jitter.
        listeners: hear every event.

    Raises:
        ConfigurationError: if an argument cannot work; the message names it and the way out.
    """

    __slots__ = ("_classify", "_effect", "budget", "retry_result", "settings")
    role = "Retry"

    def __init__(
        self,
        *,
        attempts: int,
        backoff: Backoff | None = None,
        max_elapsed: float | timedelta | None = None,
        max_retry_after: float | timedelta = 60.0,
        budget: Budget | None = None,
        retry_result: Callable[[object], bool] | None = None,
        effect: Effect | None = None,
        classify: ErrorClassifier | None = None,
        name: str = "retry",
        clock: Clock | None = None,
        chance: Callable[[], float] = chance,
        listeners: Iterable[Listener] = (log_event,),
    ) -> None:
        super().__init__(name, clock=clock, chance=chance, listeners=listeners)
        if backoff is not None and not (callable(getattr(backoff, "wait", None)) and hasattr(backoff, "cap")):
            refuse("backoff", backoff, "a schedule with `wait` and `cap`, such as FullJitter(base=0.1, cap=5.0)")
        if budget is not None and not callable(getattr(budget, "withdraw", None)):
            refuse("budget", budget, "a TokenBudget or a RatioBudget")
        if retry_result is not None and not callable(retry_result):
            refuse("retry_result", retry_result, "a function from the answer to True or False")
        if effect is not None and not isinstance(effect, Effect):
            refuse("effect", effect, "an Effect")
        self.settings: RetrySettings = RetrySettings(
            attempts=positive_count("attempts", attempts, most=1000),
            backoff=FullJitter(0.1, cap=5.0) if backoff is None else backoff,
            max_elapsed=inf if max_elapsed is None else seconds_of("max_elapsed", max_elapsed),
            max_retry_after=seconds_of("max_retry_after", max_retry_after, zero=True),
        )
        self.budget: Budget | None = budget
        self.retry_result: Callable[[object], bool] | None = retry_result
        self._effect = effect
        self._classify = checked_rules(classify)
        self._own_plan = None

    def _planned(self) -> Plan:
        return Plan(self, retry=self, classifier=self._classify, effect=self._effect or Effect.UNSAFE)

    def verdict_on(self, value: object) -> Verdict | None:
        """Return RETRYABLE where `retry_result` says so."""
        try:
            again = self.retry_result is not None and self.retry_result(value)
        except Exception:  # an answer in hand is never thrown away because it could not be judged
            return None
        return Verdict(RETRYABLE) if again else None

    def deposit(self, now: float, *, succeeded: bool) -> None:
        """Note in the budget, if there is one, a call that begins or that succeeded."""
        deposit(self.budget, now, succeeded=succeeded)

    def forked(self) -> None:
        """Begin anew in a forked child."""
        global _budgets  # noqa: PLW0603 - the parent's lock may be held by a thread that does not exist here
        _budgets = Lock()

    def withdraw(self, now: float) -> bool:
        """Take one retry from the budget; True where there is none to ask."""
        return withdraw(self.budget, now)

    def __iter__(self) -> Attempts:
        """Begin a new call: `for attempt in retry:` and `with attempt:` inside."""
        from finresilience.policies.attempts import Attempts

        return Attempts(self._plan)

    def __aiter__(self) -> Attempts:
        """Begin a new call: `async for attempt in retry:` and `with attempt:` inside."""
        from finresilience.policies.attempts import Attempts

        return Attempts(self._plan)

    def statistics(self) -> dict[str, int]:
        """Return how the calls of this policy standing alone ended."""
        return self._plan.ends.as_dict()
