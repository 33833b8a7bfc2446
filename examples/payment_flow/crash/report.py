"""What is shown of a crash run? A table from the books, what was done meanwhile, and one sentence."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from examples.payment_flow.crash.audit import unknown, wrongs
from examples.payment_flow.service.acme import CURRENCY, DECLINED, SUCCEEDED
from examples.payment_flow.service.payments import EVENTS
from finresilience import Money

if TYPE_CHECKING:
    from examples.payment_flow.crash.act import Ended
    from examples.payment_flow.crash.books import Books, Line

COLUMNS = ("paid", "money", "twice", "missing")
SHOWN = 10  # wrongs; the rest is counted


def rows(books: Books) -> list[tuple[str, ...]]:
    """Return a line for each of those who say what was paid: held against what the payments service says."""
    paid: list[Line] = [(reference, minor) for reference, (status, minor) in books.payments.items() if status == SUCCEEDED]
    told = [(reference, books.orders[reference].minor) for reference, one in books.told.items() if one.status == SUCCEEDED]
    voices = {
        'customers who were told "paid"': told,
        "payments service": paid,
        "acme, the provider": books.acme,
        "ledger service": [(reference, minor) for reference, account, minor in books.postings if account == "acme"],
        "notification service": [(reference, minor) for reference, kind, minor in books.notices if kind == EVENTS[SUCCEEDED]],
    }
    return [(who, *_row(lines, paid if lines is not told else told)) for who, lines in voices.items()]


def _row(lines: list[Line], wanted: list[Line]) -> tuple[str, ...]:
    times = Counter(reference for reference, _ in lines)
    twice, missing = sum(count - 1 for count in times.values()), sum(reference not in times for reference, _ in wanted)
    money = Money.sum((Money.minor(minor, CURRENCY) for _, minor in lines), CURRENCY)
    return str(len(lines)), str(money), str(twice), str(missing)


def meanwhile(ended: Ended) -> list[tuple[str, str]]:
    """Return what was done, in a few lines of two parts."""
    books, told = ended.books, ended.books.told.values()
    killed = Counter(kill.victim.partition(" ")[0] for kill in ended.kills)
    statuses, away = (
        Counter(one.status for one in told),
        [reference for reference, one in books.told.items() if one.walked_away and one.status is None],
    )
    settled = sum(books.payments.get(reference, ("", 0))[0] in EVENTS for reference in away)
    sent, lost = sum(one.sent for one in told), unknown(books)
    return [
        ("killed (SIGKILL)", f"payments {_times(killed['payments'])}, a relay {_times(killed['relay'])}; each was started again"),
        ("customers", f"{len(books.told)}: {statuses[SUCCEEDED]} paid, {statuses[DECLINED]} declined, {len(away)} walked away unanswered"),
        ("  of the latter", f"{settled} were settled all the same, with nobody asking; nothing was sent for the others"),
        ("requests", f"{sent}: so {sent - len(books.told)} repeats; {sum(one.replayed for one in told)} of them got the stored answer"),
        ("keys inherited", f"{books.heirs}, of holders that died: acme was asked first, and nobody charged again"),
        ("events dropped", f"{books.dropped['ledger']} by the ledger's inbox, {books.dropped['notifications']} by that of notifications"),
        ("still unknown", ", ".join(lost) or "none"),
    ]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def verdict(ended: Ended) -> list[str]:
    """Say it in one sentence, or say what is wrong."""
    found = wrongs(ended.books)
    if found:
        more = [f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        return ["The books do NOT balance: that is a defect of ours; report the seed.", *found[:SHOWN], *more]
    once = "every accepted payment exists once, every event is applied once, nothing is lost"
    return [f"{len(ended.kills)} kills, and the books balance: {once}."]
