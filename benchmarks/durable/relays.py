"""The relay: whole beside the peers, and its store alone beside a hand-written one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from benchmarks.durable.contests import Contest, Contestant, Goal
from benchmarks.durable.relay_floors import CoreRows, KeptRows, Rows
from benchmarks.durable.relay_ours import Store, Whole
from benchmarks.durable.relay_peers import FastStreamOutbox, PgQueuer, TxOutbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.durable.places import Place

ROWS: Final = 10_000
FEWER: Final = 3_000
SIZES: Final = ((100, 1), (500, 1), (100, 4), (500, 4))
RAW, RAW_KEPT, CORE = "asyncpg, row lease + DELETE", "asyncpg, row lease + UPDATE", "SQLAlchemy Core, row lease + DELETE"
DELETED, KEPT = "ours, rows deleted", "ours, rows kept"
PEERS: Final = {"txoutbox": TxOutbox, "pgqueuer": PgQueuer, "faststream-outbox": FastStreamOutbox}


def contests(place: Place) -> Iterator[Contest]:
    """Yield each, at both sizes of a batch, with one worker and with four."""
    for batch, workers in SIZES:
        yield whole(place, batch, workers)
    for batch, workers in SIZES:
        yield store(place, batch, workers)


def _named(what: str, batch: int, workers: int) -> str:
    return f"{what}: batch {batch}, {workers} worker{'s' if workers > 1 else ''}"


def whole(place: Place, batch: int, workers: int) -> Contest:
    """Publish by a coroutine that does nothing, one for each message."""
    size: dict[str, Any] = {"batch": batch, "workers": workers}
    one = {"concurrency": 1}
    contestants: dict[str, Callable[[], Contestant]] = {
        RAW: partial(Rows, place, **size, publishes=True),
        RAW_KEPT: partial(KeptRows, place, **size, publishes=True),
        DELETED: partial(Whole, place, **size, keeps=False),
        KEPT: partial(Whole, place, **size, keeps=True),
        "ours, deleted, one at a time": partial(Whole, place, **size, keeps=False, settings=one),
        **{name: partial(peer, place, **size) for name, peer in PEERS.items()},
    }
    goals = [
        Goal(DELETED, (RAW,), 1.3),
        Goal(KEPT, (RAW_KEPT,), 1.3),
        Goal(DELETED, tuple(PEERS), 2.0, "the fastest peer"),
    ]
    name = _named("relay", batch, workers)
    return Contest(name=name, base=RAW, contestants=contestants, goals=goals, rows=ROWS, fewer=dict.fromkeys(PEERS, FEWER))


def store(place: Place, batch: int, workers: int) -> Contest:
    """Fetch and settle, and publish nothing."""
    size: dict[str, Any] = {"batch": batch, "workers": workers}
    contestants: dict[str, Callable[[], Contestant]] = {
        RAW: partial(Rows, place, **size, publishes=False),
        RAW_KEPT: partial(KeptRows, place, **size, publishes=False),
        CORE: partial(CoreRows, place, **size, publishes=False),
        DELETED: partial(Store, place, **size, keeps=False),
        KEPT: partial(Store, place, **size, keeps=True),
        "ours, deleted, by psycopg": partial(Store, place, **size, keeps=False, driver="psycopg"),
    }
    goals = [Goal(DELETED, (RAW,), 1.3), Goal(KEPT, (RAW_KEPT,), 1.3), Goal(DELETED, (CORE,), 0.9)]
    return Contest(name=_named("store", batch, workers), base=RAW, contestants=contestants, goals=goals, rows=ROWS)
