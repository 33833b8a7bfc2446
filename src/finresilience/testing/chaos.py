"""What if the provider did not answer now? Trouble made on purpose round a real call, from a plan and a seed, with a permit only."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.clock import SystemClock
from finresilience.context import current, mark_sent, remaining
from finresilience.errors import ConfigurationError
from finresilience.events import log_event
from finresilience.policies.guarding import Guarding
from finresilience.policies.plan import Plan
from finresilience.testing.faults import CALLS, Asked, FaultKind, FaultPlan
from finresilience.testing.permit import ChaosPermit
from finresilience.testing.stories import turn
from finresilience.testing.strikes import (
    KINDS,
    SCRIPTS,
    ChaosError,
    FaultInjected,
    Log,
    Script,
    Strike,
    Tally,
    Wait,
    checked_hooks,
    log_injected,
    replayed,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta

    from finresilience.clock import Clock
    from finresilience.events import Listener

__all__ = ["KINDS", "Chaos", "ChaosError", "ChaosPermit", "FaultInjected", "Strike", "log_injected"]

T = TypeVar("T")
NOBODY: Final = "-"  # the subject of a call that has neither a reference nor a key
A_DAY: Final = 86_400.0  # how long a HANG lasts for a call that nobody stops
_AFTER: Final = 0.02  # a limit of the policies outside comes first, late as it may be: its own error tells more than ours
_SUBJECTS: Final = 100_000


@final
class Chaos(Guarding):
    """Make trouble round a call, as a plan says: innermost in a `Pipeline`, or a decorator by itself. Off without a permit.

        plan = FaultPlan([Fault(kind=FaultKind.TIMEOUT_AFTER, probability=0.1)], seed=7)
        acme = Pipeline("acme.charge", Retry(...), Timeout(2.0), Chaos(plan, permit=ChaosPermit.in_test("lost answers")), ...)

    Which fault a call meets depends on the plan, on the operation (the pipeline's name), on the subject (the call's reference, or else a
    digest of its idempotency key) and on how often this was asked of it: not on the order in which calls come. Kinds that end in
    `_AFTER` make the call, so that its money moves, and throw its answer away; SLOW makes it and waits; the others do not make it.
    Those mark the call as sent, since their caller cannot know. Time passes on the clock.

    Args:
        plan: which call meets which fault. Its webhook and inquiry kinds are left to a `FakeProvider`.
        permit: who wants this, why, where, until when. It is looked at again before each strike.
        subject: from the call's arguments to what it is about, where that is not the reference.
        tag: from the call's arguments to the tag that faults may name.
        shows: how your client tells of a kind: a function of the `Strike` that returns the exception to raise, or the answer to give.
            By default what the standard library raises, and a `ChaosError` with a status.
        does: what else happens when a fault of a kind strikes, before anything: a function of the `Strike`. With kind OK, that alone.
        patience: seconds after which the client would give up by itself, or at the call's deadline, if that is first: of the TIMEOUT kinds.
        keep: how many strikes to keep in `injected`, the newest.
        name: whom it stands for, where faults name a provider; the operation, where it stands alone; shown in events.
        clock: tells the time.
        listeners: hear a `FaultInjected` for each strike.

    Raises:
        ConfigurationError: without a permit that holds here and now, or if the plan asks for what cannot be made; the message says why.
    """

    __slots__ = (
        "_calls",
        "_does",
        "_held_back",
        "_log",
        "_over",
        "_patience",
        "_shows",
        "_subject_of",
        "_tag_of",
        "_tally",
        "_zero",
        "permit",
        "plan",
    )
    role = "Chaos"

    def __init__(
        self,
        plan: FaultPlan,
        *,
        permit: ChaosPermit | None = None,
        subject: Callable[..., str | None] | None = None,
        tag: Callable[..., str | None] | None = None,
        shows: Mapping[FaultKind, Callable[[Strike], object]] | None = None,
        does: Mapping[FaultKind, Callable[[Strike], object]] | None = None,
        patience: float | timedelta = 30.0,
        keep: int = 10_000,
        name: str = "chaos",
        clock: Clock | None = None,
        listeners: Iterable[Listener] = (log_event, log_injected),
    ) -> None:
        self._zero = 0.0
        super().__init__(name, clock=clock, listeners=listeners)
        if not isinstance(cast("object", plan), FaultPlan):
            refuse("plan", plan, "a FaultPlan, such as FaultPlan([Fault(kind=FaultKind.RESET_AFTER, probability=0.01)], seed=1)")
        self.permit: ChaosPermit = _permitted(permit, self._clock)
        for argument, function in (("subject", subject), ("tag", tag)):
            if function is not None and not callable(function):
                refuse(argument, function, "a function of the call's arguments, such as lambda req: req.payment_id")
        self._subject_of, self._tag_of = subject, tag
        self._shows = checked_hooks("shows", shows or {})
        self._does = checked_hooks("does", does or {})
        self._patience = seconds_of("patience", patience)
        self._log = Log(keep)
        self._tally = Tally(max(_SUBJECTS, positive_count("keep", keep)))
        self._calls = self._held_back = 0
        self._over = False
        self.plan: FaultPlan = _possible(plan, self.permit, self._shows)
        self._own_plan = None

    @classmethod
    def from_file(cls, path: str | Path, *, permit: ChaosPermit | None = None, **more: Any) -> Chaos:
        """Return the chaos of the plan that `save`, or `FaultPlan.to_json`, left in a file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            message = f"{Path(path).name} cannot be read as a fault plan ({type(error).__name__}): write one with Chaos.save(path)"
            raise ConfigurationError(message) from error
        return cls(FaultPlan.from_json(text), permit=permit, **more)

    def _planned(self) -> Plan:
        return Plan(self, innermost=self, speaks=False)

    def _hear(self, clock: Clock) -> None:
        super()._hear(clock)
        self._zero = clock.monotonic() if isinstance(clock, SystemClock) else 0.0  # the machine's own zero is nobody's

    # --- what a pipeline asks of it --------------------------------------------------------------------------------

    def around_function(self, fn: Callable[..., Any], operation: str, *, awaits: bool) -> Callable[..., Any]:
        """Return what is called in place of `fn`. Internal: pipelines call it."""
        return self._async_round(fn, operation) if awaits else self._round(fn, operation)

    def warning(self) -> str:
        """Return what `explain` says of it."""
        return f"chaos may strike: {self.permit}"

    # --- what became of it -----------------------------------------------------------------------------------------

    @property
    def injected(self) -> tuple[Strike, ...]:
        """The strikes, in order; the newest `keep` of them."""
        with self._lock:
            return tuple(self._log.strikes)

    def recorded(self) -> FaultPlan:
        """Return a plan that replays exactly what was injected: the same kinds, to the same attempts of the same subjects.

        Raises:
            ConfigurationError: if some of it is forgotten.
        """
        with self._lock:
            return replayed(self._log, self._tally, self.plan.seed)

    def save(self, path: str | Path) -> None:
        """Write what was injected to a file, for `from_file`."""
        Path(path).write_text(self.recorded().to_json() + "\n", encoding="utf-8")

    def heal(self) -> None:
        """Strike no more from now on: after the faults, a test can demand that all comes right."""
        self._over = True

    def statistics(self) -> dict[str, int]:
        """Return how many calls came by, how many were struck and how, and how many strikes the permit held back."""
        with self._lock:
            kinds = {kind.value: count for kind, count in sorted(self._log.counts.items())}
            told = {"calls": self._calls, "injected": self._log.total, "held_back": self._held_back}
        return {**told, **kinds, "listener_failures": self._publish.failures}

    # --- one call --------------------------------------------------------------------------------------------------

    def _round(self, fn: Callable[..., Any], operation: str) -> Callable[..., Any]:
        def troubled(*args: Any, **kwargs: Any) -> Any:
            strike, script = self._struck(operation, args, kwargs)
            if strike is None:
                return fn(*args, **kwargs)
            answer = fn(*args, **kwargs) if script.calls else _sent()
            if hasattr(type(answer), "__await__"):
                return answer  # nothing was done yet: whoever guards plain functions refuses it
            wait = self._wait(script, strike, grace=0.0)
            if wait:
                self._clock.sleep_sync(wait)
            return self._answer(script, strike, answer)

        return troubled

    def _async_round(self, fn: Callable[..., Any], operation: str) -> Callable[..., Any]:
        async def troubled(*args: Any, **kwargs: Any) -> Any:
            strike, script = self._struck(operation, args, kwargs)
            if strike is None:
                return await _awaited(fn(*args, **kwargs))
            answer = await _awaited(fn(*args, **kwargs)) if script.calls else _sent()
            wait = self._wait(script, strike, grace=_AFTER)
            if wait:
                await self._clock.sleep(wait)
            elif not script.calls:
                await turn()  # as every real call gives others a turn
            return self._answer(script, strike, answer)

        return troubled

    def _struck(self, operation: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Strike | None, Script]:
        """Return what strikes this call, noted and told, and what to do."""
        subject = self._asked("subject", self._subject_of, args, kwargs) or _subject()
        tag = self._asked("tag", self._tag_of, args, kwargs) or ""
        with self._lock:
            self._calls += 1
            attempt = self._tally.next((operation, subject))
        at = self._now() - self._zero
        fault = None if self._over else self.plan.meets(Asked(operation, subject, attempt, at, tag, self.name), CALLS)
        if fault is None or (fault.kind is FaultKind.OK and FaultKind.OK not in self._does):
            return None, SCRIPTS[FaultKind.OK]
        strike = Strike(operation, subject, attempt, at, fault, self.permit.why)
        if not self._noted(strike):
            return None, SCRIPTS[FaultKind.OK]
        context = current.get()
        told = FaultInjected(
            name=self.name,
            operation=operation,
            kind=fault.kind.value,
            attempt=attempt,
            reference=None if context is None else context.reference,
            why=self.permit.why,
        )
        self._publish(told)
        if fault.kind in self._does:
            self._does[fault.kind](strike)
        return strike, SCRIPTS[fault.kind]

    def _noted(self, strike: Strike) -> bool:
        """Take note of a strike, and return whether the permit lets it happen."""
        most, refusal = self.permit.at_most, self.permit.refusal(self._clock.utc())
        with self._lock:
            if refusal is not None or (most is not None and self._log.total >= most):
                self._held_back += 1
                return False
            self._log.add(strike)
        return True

    def _asked(self, argument: str, function: Callable[..., object] | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        if function is None:
            return None
        told = function(*args, **kwargs)
        if told is not None and not isinstance(told, str):
            message = (
                f"{argument}= of {self.name} must give a str or None, not a {type(told).__name__}; nothing was sent, so no money moved"
            )
            raise ConfigurationError(message)
        return told

    def _wait(self, script: Script, strike: Strike, *, grace: float) -> float:
        """Return how long it takes until the caller sees anything."""
        if script.wait is Wait.NONE:
            return 0.0
        if script.wait is Wait.SECONDS:
            return strike.fault.seconds
        left, deadline = self._patience if script.wait is Wait.PATIENCE else A_DAY, remaining()
        return left if deadline is None else min(left, deadline + grace)

    def _answer(self, script: Script, strike: Strike, answer: T) -> T:
        """Return the call's own answer, or what stands in its place; or raise that."""
        if not script.hides:
            return answer
        show = self._shows.get(strike.kind)
        seen: Any = shown(strike) if show is None else show(strike)
        if isinstance(seen, BaseException):
            raise seen
        made_up: T = seen
        return made_up


def _sent() -> Any:
    """Mark the call as sent, in place of the function that is not called; there is no answer."""
    mark_sent()
    return None


async def _awaited(answer: Any) -> Any:
    return await answer if hasattr(type(answer), "__await__") else answer


def _subject() -> str:
    """Return what the running call is about: its reference; or a digest of its key, since keys are shown to nobody."""
    context = current.get()
    if context is None:
        return NOBODY
    if context.reference is not None:
        return context.reference
    return NOBODY if context.key is None else "key-" + sha256(context.key.encode()).hexdigest()[:16]


def _permitted(permit: ChaosPermit | None, clock: Clock) -> ChaosPermit:
    if not isinstance(cast("object", permit), ChaosPermit) or permit is None:
        message = (
            "Chaos is off by construction: it makes real calls fail. Give it permit=ChaosPermit.in_test('why') in a test; anywhere else, "
            "permit=ChaosPermit('why', until=..., variable='APP_ENV', allowed=['staging'])"
        )
        raise ConfigurationError(message)
    refusal = permit.refusal(clock.utc())
    if refusal is not None:
        message = f"the permit for chaos does not hold here: {refusal}. Nothing will be injected; take the Chaos out, or get another permit"
        raise ConfigurationError(message)
    return permit


def _possible(plan: FaultPlan, permit: ChaosPermit, shows: Mapping[FaultKind, object]) -> FaultPlan:
    """Return the plan if each of its faults for calls can be made, and may be."""
    for fault in plan.faults:
        kind = fault.kind
        if kind not in CALLS:
            continue
        if kind not in KINDS or (kind is FaultKind.CONTRADICT and fault.code == "succeeded" and kind not in shows):
            message = f"Chaos cannot make {kind.value}, which only the provider itself can: take a FakeProvider, or leave it out"
            raise ConfigurationError(message)
        if kind not in permit.kinds:
            message = f"the permit for chaos ({permit.why}) does not allow {kind.value}: leave it out of the plan, or get another permit"
            raise ConfigurationError(message)
    return plan
