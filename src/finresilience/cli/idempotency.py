"""`finresilience idempotency`: what is known of a key, which keys are unsettled, and what a person found out about them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from finresilience.cli.answers import WAITING, Answer, in_batches, told
from finresilience.cli.arguments import command, deed, group, limited, span
from finresilience.cli.words import age, body, counted, facts, joined, number, plain, table, written

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from finresilience.cli.app import App
    from finresilience.durable.records import Record

_ENDS = ("completed", "failed")


def add(parsers: Any) -> None:
    """Say what the commands take."""
    mine = group(parsers, "idempotency", "Idempotency keys: what was asked once, and how it ended.")
    one = command(mine, "show", show, "What is known of a key.", needs="idempotency")
    _key(one)
    one.add_argument("--payload", action="store_true", help="show the stored answer and data, which may be private")
    about = "Keys that somebody must look after, longest idle first; exit code 1 if there are any."
    limited(command(mine, "list", listed, about, needs="idempotency"))
    old = command(mine, "purge", purge, "Forget keys that were finished long ago. A key that is forgotten is new.", needs="idempotency")
    old.add_argument("--older-than", type=span, required=True, metavar="SPAN", help="finished longer ago than this, such as 30d")
    old.add_argument("--scope", metavar="S", help="of this scope alone")
    deed(old, signed=False)
    settle = command(mine, "resolve", resolve, "Settle a key whose outcome was unknown, by evidence.", needs="idempotency")
    _key(settle)
    settle.add_argument("--as", dest="to", choices=_ENDS, required=True, help="how it ended")
    settle.add_argument("--evidence", required=True, metavar="TEXT", help="by what you know, such as the provider's reference; kept")
    settle.add_argument("--response-file", required=True, metavar="FILE", help="the bytes that every replay is answered with; - for stdin")
    settle.add_argument("--status", default="", metavar="TEXT", help="how the service reads them; nothing by default")
    deed(settle)


def _key(parser: ArgumentParser) -> None:
    parser.add_argument("--scope", required=True, metavar="S", help="whose key it is")
    parser.add_argument("key", metavar="KEY")


# --- looking ---------------------------------------------------------------------------------------------------------------


async def show(args: Namespace, app: App) -> Answer:
    """Answer with what is known of a key; with the stored answer only if that was asked for."""
    record: Record | None = await told(app.part("idempotency").find(args.scope, args.key))
    if record is None:
        return Answer({"command": args.command, "found": False}, "this key is absent: never claimed, released, or purged", WAITING)
    document: dict[str, Any] = {"command": args.command, "found": True, **_told(record), "evidence": record.evidence}
    document |= {"status": record.status, "response_bytes": len(record.response), "data_bytes": len(record.data)}
    inside = ""
    if args.payload:
        document |= {"response": body(record.response), "data": body(record.data)}
        inside = joined(*(f"{name}:\n{written(held)}" for name, held in (("response", record.response), ("data", record.data)) if held))
    hidden = "" if args.payload else ": see --payload"
    shown: list[tuple[str, object]] = [
        ("state", f"{record.state}{_lease(record)}"),
        ("claimed", f"{age(record.age)} ago"),
        ("changed", f"{age(record.idle)} ago"),
        ("owner", record.owner),
        ("takeovers", record.takeovers or None),
        ("fence", record.fence),
        ("reached", record.recovery_point),
        ("reason", record.reason),
        ("evidence", record.evidence),
        ("status", record.status),
        ("response", f"{number(len(record.response))} bytes{hidden}" if record.response else None),
        ("data", f"{number(len(record.data))} bytes{hidden}" if record.data else None),
    ]
    return Answer(document, joined(facts(shown), inside))


def _lease(record: Record) -> str:
    if str(record.state) != "in_progress":
        return ""
    return f", for {age(record.lease_left)} more" if record.lease_left > 0 else ", and its claim ran out: the next one to come is its heir"


def _told(record: Record) -> dict[str, Any]:
    return {
        "scope": record.scope,
        "key": record.key,
        "state": str(record.state),
        "unsettled": record.is_unsettled,
        "fence": record.fence,
        "owner": record.owner,
        "takeovers": record.takeovers,
        "lease_left": round(record.lease_left, 3),
        "recovery_point": record.recovery_point,
        "reason": record.reason,
        "age": round(record.age, 3),
        "idle": round(record.idle, 3),
    }


async def listed(args: Namespace, app: App) -> Answer:
    """Answer with the keys that somebody must look after."""
    records: Sequence[Record] = await told(app.part("idempotency").unsettled(limit=args.limit))
    document = {"command": args.command, "listed": len(records), "keys": [_told(one) for one in records]}
    if not records:
        return Answer(document, "no key is unsettled")
    head = ("state", "idle", "takeovers", "owner", "scope", "key")
    rows = ((_state(one), age(one.idle), one.takeovers, one.owner or None, one.scope, one.key) for one in records)
    more = "there may be more: see --limit" if len(records) == args.limit else ""
    return Answer(document, joined(table(head, rows), more), WAITING)


def _state(record: Record) -> str:
    return "ran out" if str(record.state) == "in_progress" else str(record.state)


# --- deciding --------------------------------------------------------------------------------------------------------------


async def purge(args: Namespace, app: App) -> Answer:
    """Forget keys that were finished longer ago."""
    from finresilience.cli.audit import digest, recorded
    from finresilience.cli.counting import finished_before

    store = app.part("idempotency")
    matched = await finished_before(app, args.older_than, args.scope)
    done: dict[str, Any] = {"done": 0}
    if args.apply:
        target = {"older_than": args.older_than, "scope_sha256": None if args.scope is None else digest(args.scope)}
        with recorded(args, target) as done:
            await in_batches(lambda limit: store.purge(older_than=args.older_than, scope=args.scope, limit=limit), done, at_most=None)
    document = {"command": args.command, "applied": args.apply, "older_than": args.older_than, "scope": args.scope}
    document |= {"matched": matched, "done": done["done"]}
    window = f"finished more than {age(args.older_than)} ago"
    if args.apply:
        return Answer(document, f"{counted(done['done'], 'key')} {window} forgotten")
    keys = "keys" if matched is None else counted(matched, "key")
    return Answer(document, f"{keys} {window} would be forgotten: who sends one again, is served again\nnothing was done: add --apply")


async def resolve(args: Namespace, app: App) -> Answer:
    """Settle a key by evidence, if it is still as it was when we looked."""
    from finresilience.cli.audit import digest, recorded
    from finresilience.durable.records import KeyState

    store = app.part("idempotency")
    response = _response(args.response_file, store.max_response)
    record: Record | None = await told(store.find(args.scope, args.key))
    document: dict[str, Any] = {"command": args.command, "applied": False, "state": None if record is None else str(record.state)}
    if record is None or record.state is not KeyState.INDETERMINATE:
        return Answer(document, _unresolvable(record), WAITING)
    if not args.apply:
        would = f"would be {args.to}, and every replay answered with {counted(len(response), 'byte')}"
        return Answer(document, f"the key is indeterminate and {would}\nnothing was done: add --apply --by WHO --reason WHY")
    to = KeyState.COMPLETED if args.to == "completed" else KeyState.FAILED_FINAL
    target = {"fence": record.fence, "scope_sha256": digest(args.scope), "key_sha256": digest(args.key), "to": str(to)}
    with recorded(args, target) as done:
        await told(store.resolve(record, to, response, evidence=args.evidence, status=args.status))
        done["state"] = str(to)
    return Answer(document | {"applied": True, "state": str(to)}, f"the key is {to}; every replay is answered so")


def _unresolvable(record: Record | None) -> str:
    if record is None:
        return "this key is absent: there is nothing to resolve"
    if record.is_unsettled:
        return "its claim ran out, and nobody has found it indeterminate: the next one to come is its heir, and asks the provider first"
    return f"the key is {plain(record.state)}: only an indeterminate one is resolved"


def _response(file: str, most: int) -> bytes:
    from finresilience.errors import ConfigurationError

    try:
        if file == "-":
            content = sys.stdin.buffer.read(most + 1)
        else:
            with open(file, "rb") as opened:  # noqa: PTH123 - no more of it than a store takes
                content = opened.read(most + 1)
    except OSError as error:
        raise ConfigurationError(f"--response-file cannot be read ({error.strerror}); nothing was done") from None
    if len(content) > most:
        raise ConfigurationError(f"--response-file holds more than the {most:,} bytes that the store takes; nothing was done")
    return content
