"""`finresilience outbox`: does what was committed reach the broker, what was published again, and what may be forgotten?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from finresilience.cli import dead_letters
from finresilience.cli.answers import OK, WAITING, Answer, in_batches, told
from finresilience.cli.arguments import command, deed, group, moment, seconds, span
from finresilience.cli.words import age, counted, facts, joined, number, table

if TYPE_CHECKING:
    from argparse import Namespace

    from finresilience.cli.app import App
    from finresilience.durable.outbox import OutboxStatistics

_LARGEST: Final = 5  # partitions and tenants that a person is shown


def add(parsers: Any) -> None:
    """Say what the commands take."""
    mine = group(parsers, "outbox", "Events that wait to be published, and those that could not be.")
    status = command(mine, "status", look, "How things stand; exit code 1 if something waits for a person.", needs="outbox")
    status.add_argument("--max-age", type=seconds, metavar="SECONDS", help="exit code 1 too, if an event has waited for longer")
    dead_letters.add(mine)
    again = command(mine, "replay", replay, "Publish again what was published in a window; consumers drop what they know.", needs="outbox")
    again.add_argument("--since", type=moment, required=True, metavar="ISO", help="from this moment, such as 2026-01-31T09:00:00Z")
    again.add_argument("--until", type=moment, required=True, metavar="ISO", help="to before this moment, which is past")
    deed(again)
    old = command(mine, "purge", purge, "Forget what was published long ago. What is not published is never forgotten.", needs="outbox")
    old.add_argument("--older-than", type=span, required=True, metavar="SPAN", help="published longer ago than this, such as 7d")
    deed(old, signed=False)


# --- status --------------------------------------------------------------------------------------------------------------


async def look(args: Namespace, app: App) -> Answer:
    """Answer how things stand."""
    now: OutboxStatistics = await told(app.part("outbox").statistics())
    problems = _problems(now, args.max_age)
    document = {
        "command": args.command,
        "healthy": not problems,
        "problems": [name for name, _ in problems],
        "pending": now.pending,
        "oldest_age": _whole(now.oldest_age),
        "by_partition": [{"partition": part, "pending": n} for part, n in sorted(now.by_partition.items())],
        "by_tenant": [{"tenant": tenant, "pending": n} for tenant, n in _largest(now.by_tenant)],
        "failed_attempts": now.attempts,
        "suspects": now.suspects,
        "published": now.published,
        "dead": now.dead,
        "parked_keys": now.parked_keys,
        "owned_partitions": now.owned,
    }
    return Answer(document, _shown(now, [says for _, says in problems]), WAITING if problems else OK)


def _problems(now: OutboxStatistics, max_age: float | None) -> list[tuple[str, str]]:
    letters = counted(now.dead, "dead letter waits", "dead letters wait")
    parked = counted(now.parked_keys, "key is parked: its later events wait", "keys are parked: their later events wait")
    found = (
        (now.dead > 0, "dead_letters", f"{letters} for a person: finresilience outbox dlq list"),
        (
            now.parked_keys > 0,
            "parked_keys",
            f"{parked} for its dead letter" if now.parked_keys == 1 else f"{parked} for their dead letters",
        ),
        (
            max_age is not None and now.oldest_age > max_age,
            "too_old",
            f"the oldest event has waited for {age(now.oldest_age)}, and {age(max_age or 0.0)} are allowed",
        ),
    )
    return [(name, says) for holds, name, says in found if holds]


def _shown(now: OutboxStatistics, problems: list[str]) -> str:
    oldest = f", the oldest for {age(now.oldest_age)}" if now.pending else ""
    relays = counted(now.owned, "partition has an owner", "partitions have an owner")
    rows: list[tuple[str, object]] = [
        ("pending", number(now.pending) + oldest),
        ("failed", f"{counted(now.attempts, 'attempt')} of pending events" if now.attempts else None),
        ("suspects", f"{number(now.suspects)}, a relay may have died of them" if now.suspects else None),
        ("published", f"{number(now.published)} kept"),
        ("dead", number(now.dead)),
        ("parked", counted(now.parked_keys, "key")),
        ("relays", relays if now.owned else "no partition has an owner" + (": does a relay run?" if now.pending else "")),
    ]
    parts = table(("partition", "pending"), _some([(str(part), n) for part, n in _largest(now.by_partition)]))
    tenants = [("(none)" if tenant is None else tenant, n) for tenant, n in _largest(now.by_tenant)]
    several = table(("tenant", "pending"), _some(tenants)) if len(tenants) > 1 or None not in now.by_tenant else ""
    return joined(facts(rows), parts, several, "\n".join(problems) or "nothing waits for a person")


def _largest(counts: Any) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], str(one[0])))


def _some(counts: list[tuple[str, int]]) -> list[tuple[str, str]]:
    rest = counts[_LARGEST:]
    others = [(f"{len(rest)} others", number(sum(n for _, n in rest)))] if rest else []
    return [(name, number(n)) for name, n in counts[:_LARGEST]] + others


def _whole(span: float) -> float:
    return round(max(0.0, span), 3)


# --- replay and purge ------------------------------------------------------------------------------------------------------


async def replay(args: Namespace, app: App) -> Answer:
    """Publish a window again. It is past, and bounded by what was published before: what is published meanwhile is not replayed too."""
    from finresilience.cli.audit import recorded
    from finresilience.cli.counting import published_between
    from finresilience.clock import ruling_clock
    from finresilience.errors import ConfigurationError

    if not args.since < args.until <= ruling_clock().utc():
        raise ConfigurationError("--since must be before --until, and --until past: what is replayed would else fall into the window again")
    store = app.part("outbox")
    matched = await published_between(app, args.since, args.until)
    told_of = {"since": args.since.isoformat(), "until": args.until.isoformat()}
    done: dict[str, Any] = {"done": 0}
    if args.apply:
        bound = matched if matched is not None else (await told(store.statistics())).published
        with recorded(args, told_of) as done:
            await in_batches(lambda limit: store.replay(since=args.since, until=args.until, limit=limit), done, at_most=bound)
    document = {"command": args.command, "applied": args.apply, **told_of, "matched": matched, "done": done["done"]}
    window = f"published from {told_of['since']} to before {told_of['until']}"
    return Answer(document, _said(args, matched, done["done"], ("are published again", "would be published again"), window))


async def purge(args: Namespace, app: App) -> Answer:
    """Forget what was published longer ago."""
    from finresilience.cli.audit import recorded
    from finresilience.cli.counting import published_before

    store = app.part("outbox")
    matched = await published_before(app, args.older_than)
    done: dict[str, Any] = {"done": 0}
    if args.apply:
        with recorded(args, {"older_than": args.older_than}) as done:
            await in_batches(lambda limit: store.purge(older_than=args.older_than, limit=limit), done, at_most=None)
    document = {"command": args.command, "applied": args.apply, "older_than": args.older_than, "matched": matched, "done": done["done"]}
    window = f"published more than {age(args.older_than)} ago"
    return Answer(document, _said(args, matched, done["done"], ("are forgotten", "would be forgotten"), window))


def _said(args: Namespace, matched: int | None, done: int, words: tuple[str, str], window: str) -> str:
    if args.apply:
        return f"{counted(done, 'event')} {window} {words[0]}"
    events = "events" if matched is None else counted(matched, "event")
    unknown = "; how many is known once it is done" if matched is None else ""
    sign = "--apply --by WHO --reason WHY" if args.signed else "--apply"
    return f"{events} {window} {words[1]}{unknown}\nnothing was done: add {sign}"
