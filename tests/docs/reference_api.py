"""The reference pages on names and their parameters."""

from __future__ import annotations

import ast
from importlib import import_module

import finresilience
from finresilience import durable, sql, testing
from tests.docs.source import Definition, definition, is_property, maker, member, parameters, section, signature, summary

GROUPS: dict[str, tuple[str, ...]] = {
    "Policies": (
        "Pipeline",
        "Fallback",
        "RateLimiter",
        "Hedge",
        "CircuitBreaker",
        "Retry",
        "Bulkhead",
        "Timeout",
        "Failover",
        "Route",
        "Registry",
        "PipelineConfig",
    ),
    "What a failover tells": ("Routed", "RouteHealth", "RouteState", "Drain"),
    "Rates, delays and kept answers": ("TokenBucket", "SlidingWindow", "RateRule", "Quantile", "LastGood", "Stale"),
    "Windows and rules of a breaker": (
        "TimeWindow",
        "CountWindow",
        "FailureRate",
        "FailureCount",
        "ConsecutiveFailures",
        "SlowRate",
        "OpenFor",
        "CircuitState",
        "TripRule",
        "Tally",
    ),
    "Waits and budgets of a retry": (
        "FullJitter",
        "EqualJitter",
        "DecorrelatedJitter",
        "DecorrelatedJitterV2",
        "SymmetricJitter",
        "Exponential",
        "Linear",
        "Constant",
        "Custom",
        "Backoff",
        "TokenBudget",
        "RatioBudget",
        "Budget",
    ),
    "Outcomes": ("Ok", "Declined", "Failed", "Unknown", "Refused", "Outcome", "Effect", "Found", "NotFound", "StillUnknown"),
    "Classification": (
        "Classification",
        "RETRYABLE",
        "NON_RETRYABLE",
        "UNKNOWN",
        "Verdict",
        "ErrorClassifier",
        "payments_classifier",
        "http_classifier",
        "sql_classifier",
    ),
    "What the code inside a call knows": (
        "remaining",
        "current_key",
        "current_reference",
        "current_attempt",
        "outbound_headers",
        "mark_sent",
        "deadline",
        "idempotency_key",
        "attempt_budget",
        "derive_key",
    ),
    "Time": ("Clock", "SystemClock"),
    "Money": ("Money", "Exponents"),
    "Errors": (
        "FinresilienceError",
        "ConfigurationError",
        "DecorationError",
        "MissingKeyError",
        "RefusedError",
        "AttemptOverError",
        "CircuitOpenError",
        "DeadlineExceededError",
        "ThreadLimitError",
        "BulkheadFullError",
        "RateLimitedError",
        "NoRouteError",
        "UnknownOutcomeError",
        "ExpiredError",
        "ResultError",
        "InvalidMoneyError",
        "CurrencyMismatchError",
    ),
    "Events": (
        "Event",
        "Listener",
        "log_event",
        "CircuitChanged",
        "ThresholdCrossed",
        "LateResult",
        "ProbeLost",
        "CallRefused",
        "RetryScheduled",
        "RetriesExhausted",
        "OutcomeUnknown",
        "CallAbandoned",
        "InquiryAnswered",
        "FallbackUsed",
        "CallHedged",
        "CallRouted",
        "RouteChanged",
        "BulkheadResized",
        "PlaceLapsed",
        "SlotAwaited",
        "RateChanged",
    ),
    "Once, and told to the world": ("idempotent", "OutboxMessage", "Relay"),
}
OTHER_ROOMS: dict[str, tuple[str, ...]] = {
    "finresilience.classify": ("declines_classifier", "sockets_classifier", "Rule"),
    "finresilience.durable": tuple(durable.__all__),
    "finresilience.sql": tuple(sql.__all__),
    "finresilience.testing": tuple(name for name in testing.__all__ if name not in testing._ROOMS),
    **{f"finresilience.testing.{room}": tuple(import_module(f"finresilience.testing.{room}").__all__) for room in sorted(testing._ROOMS)},
}
FACE = ("__call__", "call", "acall", "outcome", "aoutcome")
MEMBERS: dict[str, tuple[str, ...]] = {
    "Pipeline": ("inquiry", "explain", "statistics", "from_toml"),
    "CircuitBreaker": (
        "guard",
        "per",
        "state",
        "statistics",
        "trip",
        "reset",
        "force_open",
        "disable",
        "metrics_only",
        "isolate",
        "snapshot",
        "restore",
    ),
    "Bulkhead": ("guard", "per", "resize", "limit", "statistics"),
    "RateLimiter": ("guard", "per", "change", "statistics"),
    "Failover": ("call", "acall", "outcome", "aoutcome", "routed", "arouted", "drain", "restore", "resolved", "health", "statistics"),
    "Routed": ("unwrap",),
    "RouteHealth": ("success_rate",),
    "Drain": ("release",),
    "Fallback": ("statistics", "clear"),
    "Hedge": ("statistics",),
    "Retry": ("__iter__", "__aiter__", "statistics"),
    "Timeout": ("guard", "statistics"),
    "Registry": ("__getitem__", "__iter__", "statistics"),
    "PipelineConfig": ("from_toml", "build"),
    "TripRule": ("minimum_calls", "trips"),
    "Backoff": ("cap", "wait"),
    "Budget": ("on_success", "deposit", "withdraw"),
    "Ok": ("unwrap",),
    "Unknown": ("error", "unwrap"),
    "Refused": ("error", "unwrap"),
    "Effect": ("repeatable",),
    "ErrorClassifier": ("__or__", "error", "value"),
    "Money": ("minor", "rounded", "from_provider_units", "to_provider_units", "sum", "times", "convert", "allocate", "split"),
    "Clock": ("monotonic", "utc", "sleep", "sleep_sync"),
    "RefusedError": ("retry_after",),
    "ManualClock": ("advance",),
}
HANDED_OUT: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("policies.explain", "Explanation", ("as_dict",)),
    ("policies.isolation", "Isolation", ("release",)),
    ("policies.guard", "CircuitGuard", ()),
    ("policies.timeout", "TimeoutGuard", ()),
    ("policies.attempts", "Attempts", ("number",)),
    ("policies.per", "PerKey", ("of", "statistics")),
)
HANDED_OVER = ("Unknown", "Refused", "Tally", "Explored")  # nobody makes these but us
PLAIN = {  # names that are neither class nor function
    "RETRYABLE": "`Classification.RETRYABLE`: transient, and known not applied.",
    "NON_RETRYABLE": "`Classification.NON_RETRYABLE`: the answer is no, and stays no.",
    "UNKNOWN": "`Classification.UNKNOWN`: it may have been applied.",
    "Outcome": "`Ok | Declined | Failed | Unknown | Refused`: how a call can end.",
    "Story": "the clients of one schedule, and the check that must hold at its end.",
    "STANDING": "the laws that `check` and `watch` hold where none is named.",
    "Claim": "`Claimed | Replay | InProgress | Mismatch | Indeterminate`: what a claim is told.",
    "Seen": "`Fresh | Duplicate | Underway | Stale | Parked`: what the inbox says of a message.",
    "Rule": "a `Classification`, a `Verdict`, or a function from the error or answer to one of them or None.",
}
CHOSEN_LATER: dict[tuple[str, str], object] = {  # what None stands for
    ("Retry", "backoff"): finresilience.Retry(attempts=1).settings.backoff,
    ("CircuitBreaker", "window"): finresilience.CircuitBreaker("acme").core.settings.window,
}
_HEAD = """# Every public name

All come from `finresilience`, but for the last sections. Arguments past the first are given by keyword; times are seconds or a
`timedelta`. An argument that cannot work raises `ConfigurationError`, which names it and the way out. What each parameter means and its
default: [parameters](parameters.md).
"""


def names() -> str:
    lines = [_HEAD, "## The face of every policy\n"]
    guarding = definition("policies.guarding", "Guarding")
    assert isinstance(guarding, ast.ClassDef)
    lines += [f"- {_told(name, member(guarding, name))}" for name in FACE]
    for title, group in GROUPS.items():
        lines += [f"\n## {title}\n", *(line for name in group for line in _entry(_home("finresilience", name), name))]
    lines.append("\n## What policies hand out\n")
    for home, name, members in HANDED_OUT:
        kind = definition(home, name)
        assert isinstance(kind, ast.ClassDef)
        lines += [f"- `{name}`: {summary(kind)}", *_members(kind, members)]
    for room, names_there in OTHER_ROOMS.items():
        lines += [f"\n## From `{room}`\n", *(line for name in names_there for line in _entry(_home(room, name), name))]
    return "\n".join(lines) + "\n"


def _home(room: str, name: str) -> str:
    """Return the module that `name` is written in, as the front doors tell it."""
    if room not in {"finresilience", "finresilience.classify"}:
        thing = getattr(import_module(room), name)
        home = thing.__module__ if callable(thing) else f"{room}.{getattr(import_module(room), '_HOMES', {}).get(name, '')}"
        return str(home).removeprefix("finresilience.").removesuffix(".")
    home = "_currencies" if name == "Exponents" else finresilience._HOMES.get(name, "classify")  # money hands it on
    table = name.removesuffix("_classifier")
    return home if home != "classify" else f"classify.{table if table != name else 'classifier'}"


def _entry(home: str, name: str) -> list[str]:
    node = definition(home, name)
    if node is None:
        return [f"- `{name}`: {PLAIN[name]}"]
    if not isinstance(node, ast.ClassDef):
        return [f"- {_told(name, node)}"]
    made = maker(home, node) if _is_made(home, node) else None
    choices = _choices(node)
    line = f"- `{name}{'' if made is None else signature(made)}`: {summary(node)}{choices}{_raises(node)}"
    return [line, *_members(node, MEMBERS.get(name, ()))]


def _is_made(home: str, node: ast.ClassDef) -> bool:
    """Users make policies, rules and answers; events, errors and what a Protocol describes are handed to them."""
    bases = {ast.unparse(base) for base in node.bases}
    return home not in {"errors", "events", "testing.errors"} and not bases & {"Protocol", "StrEnum"} and node.name not in HANDED_OVER


def _choices(node: ast.ClassDef) -> str:
    if not any(ast.unparse(base) == "StrEnum" for base in node.bases):
        return ""
    values = [ast.unparse(item.targets[0]) for item in node.body if isinstance(item, ast.Assign)]
    return f" {', '.join(f'`{value}`' for value in values)}."


def _members(kind: ast.ClassDef, wanted: tuple[str, ...]) -> list[str]:
    return [f"  - {_told(name, member(kind, name), dot='.')}" for name in wanted]


def _told(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, *, dot: str = "") -> str:
    call = "" if is_property(node) else signature(node)
    awaited = "await " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"`{awaited}{dot}{name}{call}`: {summary(node)}{_raises(node)}"


def _raises(node: Definition) -> str:
    raised = [name for name in section(node, "Raises") if name != "ConfigurationError" or isinstance(node, ast.FunctionDef)]
    return f" Raises {', '.join(f'`{name}`' for name in raised)}." if raised else ""


def parameters_page() -> str:
    lines = [
        "# Every parameter, its default and its meaning\n",
        "Where no default is shown, the parameter must be given. `listeners` defaults to the standard library's logger, `clock` to the",
        "system's time, `chance` to a generator of the process.\n",
    ]
    for name in (name for group in GROUPS.values() for name in group):
        home = _home("finresilience", name)
        node = definition(home, name)
        made = maker(home, node) if isinstance(node, ast.ClassDef) else node
        if node is not None and made is not None and not isinstance(made, ast.ClassDef) and home not in {"errors", "events"}:
            lines += _table(name, node, made)
    return "\n".join(lines).rstrip() + "\n"


def _table(name: str, node: Definition, made: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    means = section(node, "Args")
    if not means:
        return []
    defaults = dict(parameters(made))
    assert set(means) <= {parameter.lstrip("*") for parameter in defaults}, f"{name} describes what it does not take"
    rows = [
        f"| `{parameter}` | {_default(name, parameter, default)} | {means[parameter.lstrip('*')]} |"
        for parameter, default in defaults.items()
        if parameter.lstrip("*") in means
    ]
    return [f"## {name}\n", "| parameter | default | meaning |", "|---|---|---|", *rows, ""]


def _default(name: str, parameter: str, default: str | None) -> str:
    if default is None or parameter in {"clock", "chance", "listeners"}:
        return ""
    chosen = CHOSEN_LATER.get((name, parameter))
    return f"`{default if chosen is None else repr(chosen)}`"
