"""The reference page on what the classifier's tables say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finresilience.classify.clients import CLIENTS, UNSENT, Phase
from finresilience.classify.declines import ISO_8583, STRIPE
from finresilience.classify.sockets import AT_ANY_TIME, NOT_SENT
from finresilience.classify.sql import POOLS, SQLITE_NAMES, SQLSTATES
from finresilience.classify.statuses import STATUSES, WITH_RETRY_AFTER
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MEANS = {
    Phase.MAKE: "the request cannot be made: `NON_RETRYABLE`",
    Phase.POOL: "no free connection in our own pool: `RETRYABLE`, does not count",
    Phase.NAME: "looking the host up: `RETRYABLE`",
    Phase.CONNECT: "connecting: `RETRYABLE`",
    Phase.TLS: "shaking hands: `RETRYABLE`",
    Phase.PROXY: "the proxy makes no tunnel: `RETRYABLE`",
    Phase.SENT: "writing, reading and all later: `UNKNOWN`",
    Phase.LOCAL: "our own mistake, perhaps half-way: `UNKNOWN`, does not count",
    Phase.INSIDE: "says nothing: judged by the error inside",
}

_HEAD = """# What the classifiers say

`RETRYABLE`: known not applied. `NON_RETRYABLE`: the answer is no and stays no. `UNKNOWN`: it may have been applied. What no rule names is
`UNKNOWN`. `RETRYABLE` and `UNKNOWN` count against the provider unless the table says otherwise; `NON_RETRYABLE` never does.

`payments_classifier()` asks the decline codes, then HTTP, then bare sockets. It is what a pipeline goes by that was given nothing.
`sql_classifier()` stands alone. A rule of your own goes in front: [how to classify a provider's errors](../how-to/classify-errors.md).
"""


def rules() -> str:
    named = {status: told for status, told in STATUSES.items() if told is not UNKNOWN}
    parts = [
        _HEAD,
        "## HTTP statuses (`http_classifier`)\n",
        by_classification({str(status): told for status, told in named.items()}),
        f"- with a readable `Retry-After`, `RETRYABLE` too: {listed(map(str, WITH_RETRY_AFTER))}",
        "- `UNKNOWN`: every other status from 400 on, 408, 409 and 500 among them",
        "- below 400 an answer is an ordinary answer\n",
        "An answer that came after a redirect counts as `UNKNOWN` where an earlier request may have moved money.\n",
        "## Clients, by the phase of the exchange (`http_classifier`)\n",
        *(clients(phases) for phases in {id(phases): phases for phases in CLIENTS.values()}.values()),
        "A `TimeoutError`, and an error whose class does not tell, is `RETRYABLE` where its traceback proves that the connection was",
        "still being made.\n",
        "## Sockets (`finresilience.classify.sockets_classifier`)\n",
        f"- `RETRYABLE`: {listed(NOT_SENT)}",
        f"- `UNKNOWN`, unless the connection was still being made: {listed(AT_ANY_TIME)}",
        "- an `OSError` that says we have no descriptor or port left: `RETRYABLE`, does not count\n",
        "## Decline codes (`finresilience.classify.declines_classifier`)\n",
        "Read from `decline_code`, `response_code` or `code`, or by `code_of=`. `RETRYABLE` ones do not count against the provider.\n",
        "ISO 8583, field 39:\n",
        by_classification(ISO_8583),
        "\nThe words of Stripe:\n",
        by_classification(STRIPE),
        "\n## SQLSTATEs (`sql_classifier`)\n",
        "Two characters are a class, asked when the code has no rule of its own. From asyncpg, psycopg, psycopg2 and SQLAlchemy.\n",
        by_classification(SQLSTATES),
        "\nSQLite, by `sqlite_errorname`:\n",
        by_classification(SQLITE_NAMES),
        f"\nOur own pool, `RETRYABLE`, does not count: {listed(POOLS)}",
    ]
    assert set(UNSENT) < set(MEANS)
    return "\n".join(parts) + "\n"


def by_classification(table: Mapping[str, Classification]) -> str:
    groups = {told: [code for code, said in table.items() if said is told] for told in (RETRYABLE, NON_RETRYABLE, UNKNOWN)}
    return "\n".join(f"- `{told.name}`: {listed(codes)}" for told, codes in groups.items() if codes)


def clients(phases: Mapping[Phase, tuple[str, ...]]) -> str:
    modules = [module for module, own in CLIENTS.items() if own is phases and module]
    lines = [f"{listed(modules) if modules else 'The standard library'}:\n"]
    lines += [f"- {MEANS[phase]}: {listed(names)}" for phase, names in phases.items()]
    return "\n".join(lines) + "\n"


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
