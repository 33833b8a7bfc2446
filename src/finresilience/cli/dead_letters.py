"""`finresilience outbox dlq`: what could not be published, and what a person decides of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finresilience.cli.answers import LISTED, OK, WAITING, Answer, told
from finresilience.cli.arguments import command, deed, group, limited, message_id
from finresilience.cli.words import age, body, counted, facts, joined, number, plain, table, written

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from finresilience.cli.app import App
    from finresilience.durable.outbox import DeadLetter


def add(parsers: Any) -> None:
    """Say what the commands take."""
    mine = group(parsers, "dlq", "Dead letters: events that could not be published, kept until a person decides.")
    listing = command(mine, "list", listed, "Dead letters by what went wrong; exit code 1 if there are any.", needs="outbox")
    listing.add_argument("--flat", action="store_true", help="one line for each, the first buried first")
    limited(listing)
    one = command(mine, "show", show, "One dead letter.", needs="outbox")
    one.add_argument("id", type=message_id, metavar="ID")
    one.add_argument("--payload", action="store_true", help="show its payload and headers, which may hold private data")
    for name, run, about in (
        ("revive", revive, "Put dead letters back in their places, to be published as if they had never failed."),
        ("discard", discard, "Drop dead letters for good, so that their keys go on without them."),
    ):
        chosen = command(mine, name, run, about, needs="outbox")
        which = chosen.add_mutually_exclusive_group(required=True)
        which.add_argument("ids", type=message_id, nargs="*", metavar="ID", default=[])
        which.add_argument("--fingerprint", metavar="F", help="all that `dlq list` shows under this one")
        deed(chosen)


def fingerprint_of(letter: DeadLetter) -> str:
    """Return what dead letters of one cause have in common; where no failure was seen, why it was buried."""
    return str(letter.reason) if letter.failure is None else letter.failure.fingerprint


# --- looking ---------------------------------------------------------------------------------------------------------------


async def listed(args: Namespace, app: App) -> Answer:
    """Answer with the dead letters, the first buried first."""
    from finresilience.clock import ruling_clock

    store = app.part("outbox")
    letters: Sequence[DeadLetter] = await told(store.dead_letters(limit=args.limit))
    total = len(letters) if len(letters) < args.limit else (await told(store.statistics())).dead
    now = ruling_clock().utc()
    groups = _groups(letters, now)
    document = {
        "command": args.command,
        "total": total,
        "listed": len(letters),
        "groups": groups,
        "letters": [_told(letter, now) for letter in letters],
    }
    if not letters:
        return Answer(document, "no dead letters")
    shown = _flat(letters, now) if args.flat else _grouped(groups)
    rest = f"the first {number(len(letters))} of {number(total)}: see --limit" if total > len(letters) else ""
    return Answer(document, joined(shown, rest), WAITING)


def _groups(letters: Sequence[DeadLetter], now: datetime) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], list[DeadLetter]] = {}
    for letter in letters:
        found.setdefault((fingerprint_of(letter), str(letter.reason)), []).append(letter)
    return [
        {
            "fingerprint": fingerprint,
            "reason": reason,
            "count": len(those),
            "parked_keys": len({one.row.line for one in those if one.parks}),
            "oldest_age": max(_since(one.died_at, now) for one in those),
            "newest_age": min(_since(one.died_at, now) for one in those),
        }
        for (fingerprint, reason), those in sorted(found.items(), key=lambda one: (-len(one[1]), one[0]))
    ]


def _grouped(groups: list[dict[str, Any]]) -> str:
    head = ("count", "parked keys", "oldest", "newest", "reason", "fingerprint")
    rows = (
        (number(g["count"]), number(g["parked_keys"]), age(g["oldest_age"]), age(g["newest_age"]), g["reason"], g["fingerprint"])
        for g in groups
    )
    return table(head, rows)


def _flat(letters: Sequence[DeadLetter], now: datetime) -> str:
    head = ("id", "died", "reason", "tries", "parks", "type")
    rows = (
        (one.row.id, age(_since(one.died_at, now)), one.reason, one.row.attempts, "yes" if one.parks else "no", one.row.message.type)
        for one in letters
    )
    return table(head, rows)


def _since(moment: datetime, now: datetime) -> float:
    return round(max(0.0, (now - moment).total_seconds()), 3)  # the database's clock may be ahead of ours


def _told(letter: DeadLetter, now: datetime) -> dict[str, Any]:
    row, message = letter.row, letter.row.message
    return {
        "id": str(row.id),
        "fingerprint": fingerprint_of(letter),
        "reason": str(letter.reason),
        "parks": letter.parks,
        "died_at": letter.died_at.isoformat(),
        "died_age": _since(letter.died_at, now),
        "created_at": row.created_at.isoformat(),
        "topic": message.topic,
        "type": message.type,
        "tenant": message.tenant,
        "attempts": row.attempts,
        "takeovers": row.takeovers,
        "partition": row.part,
        "seq": row.seq,
    }


async def show(args: Namespace, app: App) -> Answer:
    """Answer with one dead letter; with its payload only if that was asked for."""
    from finresilience.clock import ruling_clock

    letters: Sequence[DeadLetter] = await told(app.part("outbox").dead_letters(limit=LISTED))
    letter = next((one for one in letters if one.row.id == args.id), None)
    if letter is None:
        among = f" among the first {LISTED:,}" if len(letters) == LISTED else ""
        return Answer({"command": args.command, "found": False}, f"there is no dead letter {args.id}{among}", WAITING)
    message, now = letter.row.message, ruling_clock().utc()
    document: dict[str, Any] = {"command": args.command, "found": True, **_told(letter, now), "key": message.key}
    document |= {"content_type": message.content_type, "schema_version": message.schema_version, "payload_bytes": len(message.payload)}
    shown: list[tuple[str, object]] = [
        ("id", letter.row.id),
        ("type", f"{plain(message.type)} to {plain(message.topic)}"),
        ("key", message.key),
        ("tenant", message.tenant),
        ("reason", letter.reason),
        ("fingerprint", fingerprint_of(letter)),
        ("tries", f"{letter.row.attempts}, and {counted(letter.row.takeovers, 'relay')} died with it"),
        ("added", f"{age(_since(letter.row.created_at, now))} ago"),
        ("died", f"{age(_since(letter.died_at, now))} ago"),
        ("key waits", "yes" if letter.parks else "no"),
        ("payload", f"{number(len(message.payload))} bytes of {message.content_type}" + ("" if args.payload else ": see --payload")),
    ]
    inside = ""
    if args.payload:
        document |= {"payload": body(message.payload), "headers": dict(message.headers)}
        inside = joined(facts(message.headers.items()), written(message.payload))
    return Answer(document, joined(facts(shown), inside))


# --- deciding --------------------------------------------------------------------------------------------------------------


async def revive(args: Namespace, app: App) -> Answer:
    """Put dead letters back in their places."""
    return await _decided(args, app, app.part("outbox").revive, ("revived", "would be published again, in their old places"))


async def discard(args: Namespace, app: App) -> Answer:
    """Drop dead letters for good."""
    return await _decided(args, app, app.part("outbox").discard, ("discarded", "would be dropped for good, with their payloads"))


async def _decided(args: Namespace, app: App, decide: Callable[[Any], Any], words: tuple[str, str]) -> Answer:
    """Do it to those that were there when we looked, once: what dies again meanwhile is a new decision."""
    from finresilience.cli.audit import recorded

    letters: Sequence[DeadLetter] = await told(app.part("outbox").dead_letters(limit=LISTED))
    wanted = set(args.ids)
    chosen = [one for one in letters if one.row.id in wanted or (args.fingerprint and fingerprint_of(one) == args.fingerprint)]
    ids = [str(one.row.id) for one in chosen]
    document: dict[str, Any] = {"command": args.command, "applied": args.apply, "matched": len(chosen), "done": 0, "gone": 0, "ids": ids}
    if not chosen:
        among = f" among the first {LISTED:,}" if len(letters) == LISTED else ""
        return Answer(document, f"there is no such dead letter{among}: see finresilience outbox dlq list --flat", WAITING)
    missing = len(wanted) - len({one.row.id for one in chosen} & wanted)
    absent = f"{counted(missing, 'id is', 'ids are')} of no dead letter" if missing else ""
    if not args.apply:
        undone = "nothing was done: add --apply --by WHO --reason WHY"
        told_of = [f"{counted(len(chosen), 'dead letter')} {words[1]}", _flat_ids(ids), absent, undone]
        return Answer(document, "\n".join(one for one in told_of if one), WAITING if missing else OK)
    with recorded(args, {"ids": ids, "fingerprint": args.fingerprint}) as done:
        await _each(chosen, decide, done)
    document |= done
    gone = f"{counted(done['gone'], 'was', 'were')} decided by somebody else meanwhile" if done["gone"] else ""
    said = [f"{counted(done['done'], 'dead letter')} {words[0]}", gone, absent]
    return Answer(document, "\n".join(one for one in said if one), WAITING if missing or not done["done"] else OK)


async def _each(chosen: list[DeadLetter], decide: Callable[[Any], Any], done: dict[str, Any]) -> None:
    done |= {"done": 0, "gone": 0}
    for one in chosen:
        done["done" if await told(decide(one.row.id)) else "gone"] += 1


def _flat_ids(ids: list[str]) -> str:
    some = [f"  {one}" for one in ids[:10]]
    return "\n".join(some + ([f"  and {number(len(ids) - 10)} more"] if len(ids) > 10 else []))
