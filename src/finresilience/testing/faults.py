"""What goes wrong, and when? A plan told by data and one seed: the same call meets the same fault on every schedule."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast, final

from finresilience._checks import refuse, seconds_of
from finresilience.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_FORMAT: Final = 1


class FaultKind(StrEnum):
    """One way in which a provider, a network or a webhook fails. What a kind does to the money is in `MOVES`."""

    OK = "ok"
    DECLINE = "decline"  # a no, with a code
    DECLINE_SILENT = "decline_silent"  # a no that the caller never hears
    SLOW = "slow"  # carried out, answered late
    HANG = "hang"  # silence for ever, nothing carried out
    TIMEOUT_BEFORE = "timeout_before"  # the caller's patience ends, nothing carried out
    TIMEOUT_AFTER = "timeout_after"  # the caller's patience ends, and it was carried out
    EFFECT_LATER = "effect_later"  # silence, and carried out `seconds` later, while nobody listens any more
    RESET = "reset"  # the connection is torn down, nothing carried out
    RESET_AFTER = "reset_after"  # the connection is torn down, and it was carried out
    TOO_MANY = "too_many"  # 429 with Retry-After
    BUSY = "busy"  # 503 with Retry-After
    HTML = "html"  # 502 with a page of a proxy, nothing carried out
    HTML_AFTER = "html_after"  # 502 with a page of a proxy, and it was carried out
    CONTRADICT = "contradict"  # answered "declined" with `code`, and carried out; with the code "succeeded", the other way round
    INQUIRY_LAG = "inquiry_lag"  # inquiries do not see it for `seconds`
    WEBHOOK_TWICE = "webhook_twice"
    WEBHOOK_REORDERED = "webhook_reordered"  # told after the one that follows it, or after `seconds` if none does
    WEBHOOK_LATE = "webhook_late"  # told `seconds` later
    WEBHOOK_DROPPED = "webhook_dropped"
    WEBHOOK_FORGED = "webhook_forged"  # told with a signature that is wrong
    WEBHOOK_CONTRADICTS = "webhook_contradicts"  # told with the other final status first


MOVES: Final = frozenset(
    {
        FaultKind.OK,
        FaultKind.SLOW,
        FaultKind.TIMEOUT_AFTER,
        FaultKind.EFFECT_LATER,
        FaultKind.RESET_AFTER,
        FaultKind.HTML_AFTER,
        FaultKind.INQUIRY_LAG,
    }
)
"""The kinds after which the money has moved, or will; CONTRADICT does the opposite of what it says."""

AMBIGUOUS: Final = frozenset(
    {
        FaultKind.DECLINE_SILENT,
        FaultKind.HANG,
        FaultKind.TIMEOUT_BEFORE,
        FaultKind.TIMEOUT_AFTER,
        FaultKind.EFFECT_LATER,
        FaultKind.RESET,
        FaultKind.RESET_AFTER,
        FaultKind.HTML,
        FaultKind.HTML_AFTER,
    }
)
"""The kinds that leave the caller without an answer, whatever happened."""

EVERY: Final = frozenset(FaultKind)

WEBHOOKS: Final = frozenset(kind for kind in FaultKind if kind.value.startswith("webhook_"))
"""The kinds that befall what is told afterwards. A provider asks for them apart, so that one call may be lost and its webhook forged."""

LAGS: Final = frozenset({FaultKind.INQUIRY_LAG})
"""The kinds that befall what inquiries see, asked for apart likewise."""

CALLS: Final = EVERY - WEBHOOKS - LAGS
"""The kinds that befall the call itself."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of trouble, and when it strikes. Every condition that is given must hold.

    Args:
        kind: what goes wrong.
        probability: for each call, from 0 to 1; drawn from the plan's seed and the call itself, not from the order of calls.
        nth: strikes these attempts of a subject (a payment's reference), 1 for the first; all, if empty.
        since: strikes from this time on, in seconds of the provider's clock.
        until: strikes before this time.
        tag: strikes calls that carry this tag.
        operation: strikes this operation, such as "charge" or "inquiry"; all, if empty, inquiries too: whoever hangs does so for all who
            ask. Say "charge" for trouble that can be cleared up by asking.
        provider: strikes at the provider of this name, where several share a plan; at all, if empty.
        subject: strikes calls about this subject, such as a payment's reference; all, if empty.
        code: of a decline.
        seconds: how long: of SLOW, EFFECT_LATER, INQUIRY_LAG, WEBHOOK_LATE and WEBHOOK_REORDERED.
        retry_after: in seconds, of TOO_MANY and BUSY.

    Raises:
        ConfigurationError: if a number cannot work; the message names it.
    """

    kind: FaultKind
    probability: float = 1.0
    nth: tuple[int, ...] = ()
    since: float = 0.0
    until: float | None = None
    tag: str = ""
    operation: str = ""
    provider: str = ""
    subject: str = ""
    code: str = "insufficient_funds"
    seconds: float = 5.0
    retry_after: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.kind, FaultKind):
            refuse("kind", self.kind, f"one of {', '.join(FaultKind)}")
        if not _is_share(self.probability):
            refuse("probability", self.probability, "a number from 0 to 1")
        if not isinstance(cast("object", self.nth), tuple) or not all(_is_attempt(number) for number in self.nth):
            refuse("nth", self.nth, "a tuple of attempts, such as (1, 2); 1 is the first")
        for name in ("since", "seconds", "retry_after"):
            object.__setattr__(self, name, seconds_of(name, getattr(self, name), zero=True))
        if self.until is not None:
            object.__setattr__(self, "until", seconds_of("until", self.until))
            if self.until <= self.since:
                refuse("until", self.until, "a time after `since`, or None")
        for name in ("tag", "operation", "provider", "subject", "code"):
            if not isinstance(getattr(self, name), str):
                refuse(name, getattr(self, name), "a str")

    def strikes(self, call: Asked, chance: float) -> bool:
        """Return whether this call meets this fault, where `chance` is what was drawn for it, from 0 to 1."""
        return (
            (not self.operation or self.operation == call.operation)
            and (not self.subject or self.subject == call.subject)
            and (not self.tag or self.tag == call.tag)
            and (not self.provider or self.provider == call.provider)
            and (not self.nth or call.attempt in self.nth)
            and self.since <= call.now
            and (self.until is None or call.now < self.until)
            and chance < self.probability
        )


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """One call, as a plan sees it.

    Args:
        operation: what was asked, such as "charge".
        subject: what it is about: a payment's reference. Together with `attempt` it decides the luck of the call.
        attempt: how often this operation was asked of this subject, 1 for the first.
        now: seconds, by the clock of whoever asks.
        tag: whatever the test marks calls with.
        provider: who is asked. Two providers have each their own luck with the same payment.
    """

    operation: str
    subject: str
    attempt: int
    now: float = 0.0
    tag: str = ""
    provider: str = ""


@final
class FaultPlan:
    """Which call meets which fault: a pure function of the faults, the seed and the call. The first fault that strikes, counts.

    Args:
        faults: tried in order; a call that none of them strikes is OK.
        seed: of all that is left to chance.

    Raises:
        ConfigurationError: if something in `faults` is no `Fault`.
    """

    __slots__ = ("_lots", "_over", "faults", "seed")

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int = 0) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        for fault in self.faults:
            if not isinstance(cast("object", fault), Fault):
                refuse("faults", fault, "Faults, such as Fault(kind=FaultKind.HANG, nth=(1,))")
        if isinstance(seed, bool) or not isinstance(cast("object", seed), int):
            refuse("seed", seed, "a whole number")
        self.seed: int = seed
        self._over = False
        self._lots = list(_lots(self.faults))

    def heal(self) -> None:
        """Strike no more from now on, for whoever holds this plan. What has begun still ends as it was to end."""
        self._over = True

    def meets(self, call: Asked, among: Collection[FaultKind] = EVERY) -> Fault | None:
        """Return the fault that this call meets, or None if it is left alone; with `among`, the first of these kinds."""
        if self._over:
            return None
        for number, fault in enumerate(self.faults):
            if fault.kind in among and fault.strikes(call, 0.0) and fault.strikes(call, self._drawn(number, call)):
                return fault  # asked twice, since to draw costs more than to look
        return None

    def chance_of(self, call: Asked, what: str) -> Random:
        """Return a source of luck for whatever else there is to draw for this call: always the same."""
        return Random(_number(f"{self.seed}|{what}|{call.provider}|{call.operation}|{call.subject}|{call.attempt}"))

    def _drawn(self, number: int, call: Asked) -> float:
        if self.faults[number].probability >= 1.0:
            return 0.0
        told = f"{self.seed}|{self._lots[number]}|{call.provider}|{call.operation}|{call.subject}|{call.attempt}"
        return _number(told) / 2**56  # as good as a generator's first number, which takes ten times as long to seed

    def healed(self) -> FaultPlan:
        """Return the plan in which nothing goes wrong any more, with the same seed: after the faults, demand that all comes right."""
        return FaultPlan(seed=self.seed)

    def swarm(self, seed: int) -> FaultPlan:
        """Return the plan of this seed: each fault is left out with a chance of one half, so that rare mixes come up too."""
        chance = Random(f"{self.seed}|swarm|{seed}")
        return FaultPlan([fault for fault in self.faults if chance.random() < 0.5], seed=seed)

    def to_json(self) -> str:
        """Return the plan as one line of JSON, for `from_json` in another process."""
        told = {"finresilience_fault_plan": _FORMAT, "seed": self.seed, "faults": [_short(fault) for fault in self.faults]}
        return json.dumps(told, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> FaultPlan:
        """Return the plan that was written by `to_json`.

        Raises:
            ConfigurationError: if `text` is no plan, or one of a later format.
        """
        try:
            told = json.loads(text)
            if told["finresilience_fault_plan"] != _FORMAT:
                raise ConfigurationError(_later(told))
            return cls([_fault(row) for row in told["faults"]], seed=told["seed"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ConfigurationError):
                raise
            message = f"this is no fault plan ({type(error).__name__}: {error}); write one with FaultPlan(...).to_json()"
            raise ConfigurationError(message) from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FaultPlan) and (self.faults, self.seed) == (other.faults, other.seed)

    def __hash__(self) -> int:
        return hash((self.faults, self.seed))

    def __repr__(self) -> str:
        return f"FaultPlan([{', '.join(_said(fault) for fault in self.faults)}], seed={self.seed})"


def _number(text: str) -> int:
    """Return 56 bits that look like luck, and are the same in every process."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=7).digest())


def _lots(faults: Iterable[Fault]) -> Iterator[str]:
    """Yield what names the luck of each fault: not its place, so that another may be left out and its luck stays."""
    times: dict[str, int] = {}
    for fault in faults:
        text = json.dumps(_short(fault), sort_keys=True)
        times[text] = times.get(text, -1) + 1
        yield f"{text}|{times[text]}"


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0


def _is_attempt(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_PLAIN: Final[dict[str, Any]] = {field.name: field.default for field in fields(Fault)}


def _short(fault: Fault) -> dict[str, Any]:
    return {name: value for name, value in asdict(fault).items() if name == "kind" or value != _PLAIN[name]}


def _said(fault: Fault) -> str:
    rest = [f"{name}={value!r}" for name, value in _short(fault).items() if name != "kind"]
    return f"Fault({', '.join([f'kind=FaultKind.{fault.kind.name}', *rest])})"


def _fault(row: dict[str, Any]) -> Fault:
    told: dict[str, Any] = {**row, "kind": FaultKind(row["kind"])}
    if "nth" in told:
        told["nth"] = tuple(told["nth"])
    return Fault(**told)


def _later(told: dict[str, Any]) -> str:
    return f"this fault plan has format {told['finresilience_fault_plan']!r}, and this version reads format {_FORMAT}: write it anew"
