"""The reference pages on errors and events."""

from __future__ import annotations

import ast

from finresilience.events import CallAbandoned, CircuitChanged, OutcomeUnknown, RetriesExhausted, RouteChanged, _sentence
from tests.docs.source import fields, is_property, module, section, summary

WHEN = {
    "CircuitChanged": "a circuit goes from one state to another",
    "ThresholdCrossed": "a circuit on metrics only would have opened, once a stay",
    "LateResult": "a result comes after it could matter: `source` is `circuit` or `thread`",
    "ProbeLost": "a probe has not reported before its lease ran out",
    "CallRefused": "we do not send a call; told only where a listener other than the log listens",
    "RetryScheduled": "an attempt failed and another follows after `delay` seconds",
    "RetriesExhausted": "the error would allow another attempt, and something else says stop",
    "OutcomeUnknown": "a call has ended, and nobody knows whether it happened",
    "CallAbandoned": "somebody cancels a call that may have been sent",
    "InquiryAnswered": "the provider was asked; `answer` is `found`, `not_found`, `still_unknown` or `failed`",
    "FallbackUsed": "a fallback answered in the provider's place",
    "CallHedged": "a further arm of a call was sent; told once the call has ended",
    "CallRouted": "a failover's call has ended",
    "RouteChanged": "a failover drains a provider, or gives it its traffic back",
    "BulkheadResized": "somebody gave a bulkhead another limit",
    "PlaceLapsed": "a caller that was let in did not come within the lease, and the next was let in",
    "SlotAwaited": "a call waited for its turn at a limiter, and passed; told only where a listener other than the log listens",
    "RateChanged": "somebody gave a limiter another rule",
}
LOGGED = (
    CircuitChanged(
        name="acme",
        before="closed",
        after="open",
        generation=1,
        reason="5 calls in a row failed",
        open_for=30.2,
        last_failure="ReadTimeout",
    ),
    OutcomeUnknown(name="acme.charge", attempts=1, error_type="ReadTimeout", reference="pay_1"),
    RetriesExhausted(name="acme.charge", attempts=3, error_type="ReadTimeout", reason="every attempt is used up", reference="pay_1"),
    CallAbandoned(name="acme.charge", attempt=1, ran=0.512, reference="pay_1"),
    RouteChanged(name="charge", route="acme", before="healthy", after="drained", reason="its p95 is 10 times what it was"),
)


def errors() -> str:
    tree = module("errors")
    drawn = (ast.get_docstring(tree) or "").split("\n\n")[1]
    lines = [
        "# Errors\n",
        "Each message says what happened, what is now true of the money, and what to do next. None carries a key, a secret or an account",
        "number. All come from `finresilience`.\n",
        "```text",
        "\n".join(line.removeprefix("    ") for line in drawn.splitlines()),
        "```\n",
        "| error | it means | it carries |",
        "|---|---|---|",
    ]
    for kind in classes(tree):
        carried = [*section(kind, "Args"), *(node.name for node in kind.body if isinstance(node, ast.FunctionDef) and is_property(node))]
        lines.append(f"| `{kind.name}` | {summary(kind)} | {', '.join(f'`{name}`' for name in carried)} |")
    return "\n".join(lines) + _ENDS


_ENDS = """

Which end of a call raises what:

| outcome | what the plain call does |
|---|---|
| `Ok` | returns the answer |
| `Declined`, `Failed` | raises your own error, with a note that tells attempts and waits; a returned answer is returned |
| `Unknown` | raises `UnknownOutcomeError` from the last error; a lone `CircuitBreaker` raises your own error |
| `Refused` | raises a `RefusedError`, such as `CircuitOpenError`, `DeadlineExceededError` or `BulkheadFullError` |
"""


def events() -> str:
    lines = [
        "# Events\n",
        "Each event is plain data: names, numbers and class names, never arguments, keys or messages. `name` is the policy or",
        "pipeline that speaks. A `LateResult` may hold the answer in `value`, which is never shown.",
        "[How to hear them](../how-to/observe.md).\n",
        "| event | when | fields, besides `name` |",
        "|---|---|---|",
    ]
    for kind in classes(module("events")):
        if [ast.unparse(base) for base in kind.bases] == ["Event"]:
            told = ", ".join(f"`{field}: {annotation}`".replace("|", "\\|") for field, annotation in fields(kind).items())
            lines.append(f"| `{kind.name}` | {WHEN[kind.name]} | {told} |")
    logged = "\n".join(f"| `{type(event).__name__}` | `{event.name}: {_sentence(event)}` |" for event in LOGGED)
    return "\n".join(lines) + "\n" + _LOGGED + logged + "\n"


_LOGGED = """
With no set-up, five of them are warnings of the standard library's logger `finresilience`. The record has the event as
`finresilience_event`.

| event | the line |
|---|---|
"""


def classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
