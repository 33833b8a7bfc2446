"""A relay in a process of its own, which believes in a time of day of its own, and appends what it publishes to its journal."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel

from finresilience import Constant
from finresilience.durable.outbox import FencedError
from finresilience.durable.relay import Relay
from finresilience.durable.relay_events import OutboxStoreFailed, PublishFailed, RelayFenced
from tests.integration.sql.kill_journal import PUBLISHED, TROUBLE, Journal
from tests.integration.sql.kill_world import TABLES, World, believe

if TYPE_CHECKING:
    from finresilience.durable.messages import OutboxRow

LEASE: Final = 2.0
BATCH: Final = 40
EVERY: Final = 20
WIDTH: Final = 8
MOST_HELD: Final = 4
NUMBERS: Final[dict[str, Any]] = {
    "lease": LEASE,
    "batch": BATCH,
    "concurrency": WIDTH,
    "publish_timeout": LEASE / BATCH,
    "settle_every": EVERY,
    "settle_within": 0.2,
    "max_attempts": 100_000,  # a starved machine is no reason to bury an event
    "max_takeovers": 1000,  # chance strikes these, and not their payload
    "backoff": Constant(0.01),
    "poll": (0.02, 0.2),
    "partitions_at_most": MOST_HELD,
}
POISON: Final = "poison"  # of an event that kills whoever publishes it


def relay(told: dict[str, Any]) -> None:
    """Publish until killed."""
    believe(told["skew"])
    journal = Journal(Path(told["journal"]), os.getpid())
    world, driver, numbers = World(told["url"]), told["driver"], NUMBERS | told.get("numbers", {})
    slow = told.get("slow", 0.0)

    def trouble(event: object) -> None:
        if isinstance(event, (RelayFenced, OutboxStoreFailed, PublishFailed)):
            journal.write(TROUBLE, type(event).__name__)

    def publish(row: OutboxRow) -> None:
        if row.message.type == POISON:
            os._exit(9)
        journal.write(PUBLISHED, row.id, row.message.key)
        if slow:
            time.sleep(slow)

    async def apublish(row: OutboxRow) -> None:
        publish(row)
        await anyio.lowlevel.checkpoint()

    async def arun() -> None:
        engine = world.aengine(driver, pool_size=2, **_named(told, driver))
        await Relay(TABLES.outbox.store(engine), apublish, listeners=[trouble], **numbers).run()

    while True:
        try:
            if driver.endswith("sync"):
                engine = world.engine(driver.removesuffix("-sync"), pool_size=2, **_named(told, driver))
                Relay(TABLES.outbox.store(engine), publish, listeners=[trouble], **numbers).run_sync()
            else:
                anyio.run(arun)
        except FencedError:
            continue  # as the error says: a new one starts


def _named(told: dict[str, Any], driver: str) -> dict[str, Any]:
    """Return what makes the server know whose connection it is, so that it can be cut."""
    if told["url"].startswith("sqlite"):
        return {}
    name = f"relay-{os.getpid()}"
    return {"connect_args": {"server_settings": {"application_name": name}} if driver == "asyncpg" else {"application_name": name}}
