"""`finresilience inbox`: which messages failed too often, and shall be handled after all?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.cli.answers import LISTED, WAITING, Answer, told
from finresilience.cli.arguments import command, deed, group, limited
from finresilience.cli.words import age, joined, plain, table

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from finresilience.cli.app import App
    from finresilience.durable.seen import ParkedMessage


def add(parsers: Any) -> None:
    """Say what the commands take."""
    mine = group(parsers, "inbox", "Messages that consumers were given.")
    limited(command(mine, "parked", parked, "Messages that failed too often; exit code 1 if there are any.", needs="inbox"))
    one = command(mine, "unpark", unpark, "Let a parked message be handled when it is delivered again.", needs="inbox")
    one.add_argument("--group", required=True, metavar="G", help="which consumers")
    one.add_argument("--tenant", default="", metavar="T", help="whose message it is, if there are several")
    one.add_argument("message_id", metavar="MESSAGE_ID")
    deed(one)


async def parked(args: Namespace, app: App) -> Answer:
    """Answer with the parked messages."""
    messages: Sequence[ParkedMessage] = await told(app.part("inbox").parked(limit=args.limit))
    document = {"command": args.command, "listed": len(messages), "messages": [_told(one) for one in messages]}
    if not messages:
        return Answer(document, "no message is parked")
    head = ("idle", "failures", "group", "tenant", "reason", "message id")
    rows = ((age(one.idle), one.failures, one.group, one.tenant or None, one.reason or None, one.message_id) for one in messages)
    more = "there may be more: see --limit" if len(messages) == args.limit else ""
    return Answer(document, joined(table(head, rows), more), WAITING)


def _told(one: ParkedMessage) -> dict[str, Any]:
    return {
        "group": one.group,
        "tenant": one.tenant,
        "message_id": one.message_id,
        "delivery_id": one.delivery_id,
        "failures": one.failures,
        "reason": one.reason,
        "age": round(one.age, 3),
        "idle": round(one.idle, 3),
    }


async def unpark(args: Namespace, app: App) -> Answer:
    """Let a parked message be handled when it is delivered again."""
    from finresilience.cli.audit import digest, recorded

    store = app.part("inbox")
    document = {"command": args.command, "applied": args.apply, "done": False}
    if not args.apply:
        at = (args.tenant, args.group, args.message_id)
        messages: Sequence[ParkedMessage] = await told(store.parked(limit=LISTED))
        known = next((one for one in messages if (one.tenant, one.group, one.message_id) == at), None)
        if known is None:
            return Answer(document, "no such message is parked: see finresilience inbox parked", WAITING)
        reason = f" ({plain(known.reason)})" if known.reason else ""
        would = f"it failed {known.failures} times{reason}, and would be handled when it is delivered again"
        return Answer(document, f"{would}\nnothing was done: add --apply --by WHO --reason WHY")
    target = {"group": args.group, "tenant_sha256": digest(args.tenant), "message_id_sha256": digest(args.message_id)}
    with recorded(args, target) as done:
        done["done"] = await told(store.unpark(group=args.group, message_id=args.message_id, tenant=args.tenant))
    if not done["done"]:
        return Answer(document, "no such message is parked: see finresilience inbox parked", WAITING)
    return Answer(document | {"done": True}, "it will be handled when it is delivered again: publish it again if its broker does not")
