"""What can this pipeline do at worst? Told before the first call."""

from __future__ import annotations

from math import inf, isfinite
from typing import TYPE_CHECKING, Any, final

from finresilience.outcome import Effect
from finresilience.policies.per import PerKey

if TYPE_CHECKING:
    from finresilience.policies.plan import Plan


@final
class Explanation:
    """The worst case of a pipeline, as text (`str`) and as data (`as_dict`)."""

    __slots__ = ("attempts", "attempts_all_workers", "effect", "inquiry", "name", "seconds", "warnings", "workers")

    attempts: int
    attempts_all_workers: int
    effect: str
    inquiry: list[float]
    name: str
    seconds: float
    warnings: list[str]
    workers: int

    def __init__(self, **facts: Any) -> None:
        for slot in self.__slots__:
            setattr(self, slot, facts[slot])

    def as_dict(self) -> dict[str, object]:
        """Return the same as data."""
        return {slot: getattr(self, slot) for slot in self.__slots__}

    def __str__(self) -> str:
        """Say it in a few lines."""
        seconds = f"{self.seconds:.1f} s" if isfinite(self.seconds) else "without limit"
        lines = [
            f"{self.name} ({self.effect})",
            f"  at worst: {_times(self.attempts, 'attempt')} and {seconds} for one call",
            f"  at worst, with one call in each of {_times(self.workers, 'worker')}: {_times(self.attempts_all_workers, 'attempt')}",
        ]
        if self.inquiry:
            lines.append(f"  unknown outcomes: asked up to {_times(len(self.inquiry), 'time')} over {sum(self.inquiry):g} s")
        lines += [f"  warning: {warning}" for warning in self.warnings] or ["  no warnings"]
        return "\n".join(lines)


def _times(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def explain(name: str, plan: Plan, *, inner_attempts: int, workers: int) -> Explanation:
    """Return the worst case of `plan`."""
    attempts = _attempts(plan) * inner_attempts
    return Explanation(
        name=name,
        effect=plan.effect.value,
        attempts=attempts,
        attempts_all_workers=attempts * workers,
        workers=workers,
        seconds=_seconds(plan),
        inquiry=[] if plan.inquiry is None else list(plan.inquiry.schedule),
        warnings=_warnings(plan, inner_attempts),
    )


def _attempts(plan: Plan) -> int:
    """The most attempts that one call makes: of every retry, in every arm, in every layer."""
    own = 1 if plan.retry is None else plan.retry.settings.attempts
    arms = 1 if plan.hedge is None else 1 + plan.hedge.extra
    return own * arms * (1 if plan.inside is None else _attempts(plan.inside))


def _seconds(plan: Plan) -> float:
    """The longest one call may take, and what may stand in for it once it has ended."""
    return _until_the_end(plan) + sum(_stand_in(plan, stage) for stage in plan.stages)


def _until_the_end(plan: Plan) -> float:
    """The longest one call may take, if everything that can be waited for is waited for. Arms of a hedge may follow each other."""
    inside = inf if plan.inside is None else _seconds(plan.inside)
    each = min(inside, inf if plan.timeout is None else plan.timeout.seconds) + sum(map(_longest_wait, plan.gates))
    once = sum(map(_longest_wait, plan.stages))
    arms = 1 if plan.hedge is None else 1 + plan.hedge.extra
    if plan.retry is None:
        return min(once + arms * each, plan.deadline)
    settings = plan.retry.settings
    waits = (settings.attempts - 1) * max(settings.backoff.cap, settings.max_retry_after)
    arm = min(each * settings.attempts + waits, settings.max_elapsed + each)
    return min(once + arms * arm, plan.deadline)


def _stand_in(plan: Plan, stage: object) -> float:
    """How long a fallback's own function may take: as long as an attempt, and past the call's deadline."""
    if getattr(stage, "kind", None) not in {"function", "pending"}:
        return 0.0
    return min(plan.deadline, inf if plan.timeout is None else plan.timeout.seconds)


def _longest_wait(policy: object) -> float:
    """How long a call may stand at a gate; a family waits as its template does, and once more for a total."""
    total = getattr(policy, "total", None)
    wait: float = getattr(getattr(policy, "_template", policy), "max_wait", 0.0)
    return wait + (0.0 if total is None else _longest_wait(total))


def _warnings(plan: Plan, inner_attempts: int) -> list[str]:
    seconds = inf if plan.timeout is None else plan.timeout.seconds
    breaker = plan.breaker._template if isinstance(plan.breaker, PerKey) else plan.breaker
    lease = inf if breaker is None else breaker.core.probe_lease
    found = (
        (inner_attempts > 1, f"the client inside makes {inner_attempts} attempts by itself: switch its retries off"),
        (plan.deadline <= seconds < inf, "the deadline leaves no time for a second attempt: it is not longer than the timeout"),
        (plan.timeout is None and plan.deadline == inf, "nothing bounds an attempt: add a Timeout or a deadline"),
        (
            plan.timeout is not None and plan.timeout.threads is None,
            "a plain function is not stopped by Timeout: hand remaining() to its client, or set thread_limit",
        ),
        (lease <= seconds < inf, "probe_lease is not longer than the timeout: a slow probe never counts"),
        (
            plan.deadline <= sum(map(_longest_wait, (*plan.stages, *plan.gates))),
            "the whole deadline may pass in a queue: it is not longer than max_wait",
        ),
        (plan.inside is not None, "an order of your own: policies on one side of the break do not know of those on the other"),
        (plan.retry is not None and plan.effect is Effect.UNSAFE, "UNSAFE: only what is known not to have happened is tried again"),
        (plan.effect is not Effect.READ and plan.inquiry is None, "no inquiry: unknown outcomes are left to reconciliation"),
        (plan.innermost is not None, "" if plan.innermost is None else plan.innermost.warning()),
    )
    return [text for holds, text in found if holds]
