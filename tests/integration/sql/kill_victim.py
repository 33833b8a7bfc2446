"""A payment in both shapes, and a process that dies at the n-th boundary of its statements, before or after one, and tidies nothing up."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event, select

from finresilience.durable.codecs import json_codec
from finresilience.durable.idempotent import idempotent
from finresilience.durable.messages import OutboxMessage
from finresilience.outcome import Found, NotFound
from finresilience.sql import KeyAnsweredError, sources
from tests.integration.sql.kill_journal import DONE, Journal
from tests.integration.sql.kill_world import EFFECTS, TABLES, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Engine

    Pay = Callable[[str], str]
    Passes = Callable[[], None]


def nobody() -> None:
    """Watch nothing."""


def itself(key: str) -> str:
    """One key, one scope, one request."""
    return key


def leased(engine: Engine, provider: Any, lease: float, passes: Passes = nobody) -> Pay:
    """Reach a provider under a lease. It knows no keys, and does what it is told as often as it is told."""

    def asked(_: Any, key: str) -> Any:
        with provider.connect() as connection:
            known = connection.execute(select(EFFECTS.c.by).where(EFFECTS.c.key == key)).first()
        return NotFound() if known is None else Found(known[0])

    @idempotent(
        TABLES.idempotency.store(engine),
        key=itself,
        scope=itself,
        fingerprint=itself,
        codec=json_codec(),
        lease=lease,
        deadline=lease * 0.9,
        wait=20.0,
        recover=asked,
        name="pay",
    )
    def pay(key: str) -> str:
        passes()
        with provider.begin() as connection:
            connection.execute(EFFECTS.insert().values(key=key, by=f"paid {key}"))
        passes()
        return f"paid {key}"

    return pay


def together(engine: Any, _: Any, lease: float, passes: Passes = nobody) -> Pay:
    """Effect, key, answer and event in one transaction."""

    def pay(key: str) -> str:
        try:
            with engine.begin() as connection:
                with TABLES.idempotency.claim(connection, key, scope="together", request="f", codec=json_codec()) as claim:
                    connection.execute(EFFECTS.insert().values(key=key, by=f"paid {key}"))
                    TABLES.outbox.add(connection, OutboxMessage(topic="t", key=key, type="Paid", payload={}))
                    claim.complete(f"paid {key}")
                return f"paid {key}"
        except KeyAnsweredError as error:
            return str(error.answer)

    return pay


def consumed(engine: Any, _: Any, lease: float, passes: Passes = nobody) -> Pay:
    """Handle a message in one transaction with its marker and an event of its own."""
    from sqlalchemy.orm import sessionmaker

    sessions = sessionmaker(engine)

    def pay(key: str) -> str:
        def handle(session: Any) -> None:
            session.execute(EFFECTS.insert().values(key=key, by=f"paid {key}"))
            TABLES.outbox.add(session, OutboxMessage(topic="t", key=key, type="Paid", payload={}))

        TABLES.inbox.consume(sessions, handle, group="ledger", message_id=key)
        return f"paid {key}"

    return pay


SHAPES: Final = {"leased": leased, "together": together, "consumed": consumed}


class Boundaries:
    """Counts every boundary that is passed, and dies at one of them."""

    def __init__(self, deadly: int | None) -> None:
        self.passed = 0
        self._deadly = deadly

    def __call__(self, *_: object) -> None:
        self.passed += 1
        if self.passed == self._deadly:
            os._exit(9)

    def watch(self, engine: Any) -> Any:
        """Pass one boundary before, and one after, each statement and each commit."""
        event.listen(engine, "before_cursor_execute", self)
        event.listen(engine, "after_cursor_execute", self)
        engine.dialect.do_commit = self.round(engine.dialect.do_commit)
        for name in ("psycopg_link", "sqlite3_link"):
            setattr(sources, name, self._linked(getattr(sources, name)))
        return engine

    def round(self, function: Any) -> Any:
        def passing(*args: Any) -> Any:
            self()
            told = function(*args)
            self()
            return told

        return passing

    def _linked(self, link: Any) -> Any:
        def linked(raw: Any) -> Any:
            return self.round(link(raw))

        return linked


def victim(told: dict[str, Any]) -> None:
    """Pay, and die meanwhile; or live, and say how many boundaries there are."""
    world, boundaries = World(told["url"]), Boundaries(told["deadly"])
    engine, provider = world.engine(pool_size=2), world.engine(pool_size=1)
    for warm in (engine, provider):  # what SQLAlchemy asks of a new engine is no boundary of ours
        warm.connect().close()
    pay = SHAPES[told["shape"]](boundaries.watch(engine), provider, told["lease"], boundaries)
    pay(told["key"])
    with suppress(KeyError):
        Journal(Path(told["journal"]), os.getpid()).write(DONE, boundaries.passed)
