"""Idempotency keys on PostgreSQL: in the caller's transaction, leased, and replayed; each beside its like by hand."""

from __future__ import annotations

import json
from functools import partial
from hashlib import sha256
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Column, DateTime, LargeBinary, MetaData, PrimaryKeyConstraint, String, Table, bindparam, create_engine, func, update
from sqlalchemy.dialects.postgresql import insert as pg_insert

from benchmarks.durable.callers import BUSINESS, PAID, OnPostgres, ThreadedCallers
from benchmarks.durable.contests import Contest, Goal
from benchmarks.durable.places import ENGINE, url
from finresilience.durable.codecs import json_codec
from finresilience.durable.records import Claimed, KeyState
from finresilience.sql import Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.durable.contests import Contestant
    from benchmarks.durable.places import Place

HAND, OURS = "insert-first by hand", "ours"
SCOPE: Final = "acct-7/create_payment"

KEYS: Final = Table(
    "hand_key",
    BUSINESS,
    Column("scope", String(255), nullable=False),
    Column("key", String(255), nullable=False),
    Column("fingerprint", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("response", LargeBinary),
    Column("began_at", DateTime(timezone=True), nullable=False),
    Column("lease_until", DateTime(timezone=True)),
    PrimaryKeyConstraint("scope", "key"),
)
CLAIMED: Final = pg_insert(KEYS).values(began_at=func.now()).on_conflict_do_nothing(index_elements=["scope", "key"]).returning(KEYS.c.state)
FINISHED: Final = (
    update(KEYS)
    .where(KEYS.c.scope == bindparam("in_scope"), KEYS.c.key == bindparam("at_key"))
    .values(state="completed", response=bindparam("answer"))
)


def request(number: int) -> dict[str, Any]:
    """Return what the client asks."""
    return {"payment_id": f"pay_{number}", "amount": 5000, "currency": "EUR"}


def answer(number: int) -> dict[str, Any]:
    """Return what it gets."""
    return {"payment_id": f"pay_{number}", "status": "settled"}


def told(number: int) -> dict[str, Any]:
    """Return the row of a new key: a fingerprint has to come from somewhere."""
    printed = sha256(json.dumps(request(number), sort_keys=True).encode()).hexdigest()
    return {"scope": SCOPE, "key": f"key-{number}", "fingerprint": printed, "state": "in_progress"}


def finished(number: int) -> dict[str, Any]:
    """Return what completes it."""
    return {"in_scope": SCOPE, "at_key": f"key-{number}", "answer": json.dumps(answer(number)).encode()}


# ---------------------------------------------------------------- effect, key and answer in one transaction


class Together(OnPostgres):
    """Ours, in a transaction of an AsyncConnection."""

    async def call(self, number: int) -> None:
        async with self.engine.begin() as connection:
            claiming = self.tables.idempotency.claim(connection, f"key-{number}", scope=SCOPE, request=request(number), codec=json_codec())
            async with claiming as claim:
                await connection.execute(PAID, {"account": "acct-7", "amount": 5000})
                claim.complete(answer(number))


class TogetherByHand(OnPostgres):
    """The same three statements, by SQLAlchemy Core."""

    async def call(self, number: int) -> None:
        async with self.engine.begin() as connection:
            if (await connection.execute(CLAIMED, told(number))).first() is None:
                raise RuntimeError("the key is taken")
            await connection.execute(PAID, {"account": "acct-7", "amount": 5000})
            await connection.execute(FINISHED, finished(number))


class SyncTogether(ThreadedCallers):
    """Ours, in a transaction of a Connection."""

    def __init__(self, place: Place, *, together: int) -> None:
        super().__init__()
        self.together = together
        self.metadata = MetaData()
        self.tables = Tables(self.metadata)
        self.engine = create_engine(url(place.database(), "psycopg"), **ENGINE)

    async def open(self) -> None:
        BUSINESS.create_all(self.engine)
        self.metadata.create_all(self.engine)

    def call(self, number: int) -> None:
        with self.engine.begin() as connection:
            claiming = self.tables.idempotency.claim(connection, f"key-{number}", scope=SCOPE, request=request(number), codec=json_codec())
            with claiming as claim:
                connection.execute(PAID, {"account": "acct-7", "amount": 5000})
                claim.complete(answer(number))

    async def close(self) -> None:
        self.engine.dispose()


class SyncTogetherByHand(SyncTogether):
    """The same three statements, by SQLAlchemy Core."""

    def call(self, number: int) -> None:
        with self.engine.begin() as connection:
            if connection.execute(CLAIMED, told(number)).first() is None:
                raise RuntimeError("the key is taken")
            connection.execute(PAID, {"account": "acct-7", "amount": 5000})
            connection.execute(FINISHED, finished(number))


# ---------------------------------------------------------------- leased


class Leased(OnPostgres):
    """Ours: claim and complete, each by itself."""

    async def open(self) -> None:
        await super().open()
        self._store = self.tables.idempotency.store(self.engine)
        self._codec = json_codec()

    async def call(self, number: int) -> None:
        row = told(number)
        claim = await self._store.claim(SCOPE, row["key"], fingerprint=row["fingerprint"], lease=60.0)
        assert isinstance(claim, Claimed)
        await self._store.complete(claim.token, self._codec.encode(answer(number)))


CLAIM: Final = (
    "INSERT INTO hand_key (scope, key, fingerprint, state, began_at, lease_until) "
    "VALUES ($1, $2, $3, 'in_progress', now(), now() + interval '60 seconds') ON CONFLICT DO NOTHING RETURNING state"
)
COMPLETE: Final = "UPDATE hand_key SET state = 'completed', response = $3 WHERE scope = $1 AND key = $2 AND state = 'in_progress'"
FIND: Final = "SELECT state, fingerprint, response FROM hand_key WHERE scope = $1 AND key = $2"


class LeasedByHand(OnPostgres):
    """Two statements through a pool of asyncpg."""

    async def open(self) -> None:
        asyncpg: Any = import_module("asyncpg")
        await super().open()
        self._pool: Any = await asyncpg.create_pool(self.database.socket_dsn, min_size=self.together, max_size=self.together)

    async def call(self, number: int) -> None:
        row = told(number)
        if await self._pool.fetchval(CLAIM, SCOPE, row["key"], row["fingerprint"]) is None:
            raise RuntimeError("the key is taken")
        await self._pool.execute(COMPLETE, SCOPE, row["key"], json.dumps(answer(number)).encode())

    async def close(self) -> None:
        await self._pool.close()
        await super().close()


class Replayed(Leased):
    """Ours: a key that was answered before, which costs one statement."""

    async def open(self) -> None:
        await super().open()
        await super().call(-1)

    async def call(self, number: int) -> None:  # noqa: ARG002 - one key for all
        row = told(-1)
        found: Any = await self._store.claim(SCOPE, row["key"], fingerprint=row["fingerprint"], lease=60.0)
        assert found.record.state is KeyState.COMPLETED


class ReplayedByHand(LeasedByHand):
    """A SELECT through the pool."""

    async def open(self) -> None:
        await super().open()
        await super().call(-1)

    async def call(self, number: int) -> None:  # noqa: ARG002 - one key for all
        row = told(-1)
        found = await self._pool.fetchrow(FIND, SCOPE, row["key"])
        assert found["state"] == "completed"
        assert found["fingerprint"] == row["fingerprint"]


def contests(place: Place) -> Iterator[Contest]:
    """Yield each, with one caller and with many."""
    for together in (1, 32):
        yield _contest(f"idempotent write: asyncpg, {together} at once", partial(TogetherByHand, place), partial(Together, place), together)
    for together in (1, 8):
        yield _contest(
            f"idempotent write: psycopg, {together} at once", partial(SyncTogetherByHand, place), partial(SyncTogether, place), together
        )
    for together in (1, 32):
        yield _contest(f"leased key: asyncpg, {together} at once", partial(LeasedByHand, place), partial(Leased, place), together)
    for together in (1, 32):
        yield _contest(f"replay: asyncpg, {together} at once", partial(ReplayedByHand, place), partial(Replayed, place), together)


def _contest(name: str, hand: Callable[..., Contestant], ours: Callable[..., Contestant], together: int) -> Contest:
    contestants: dict[str, Callable[[], Contestant]] = {HAND: partial(hand, together=together), OURS: partial(ours, together=together)}
    return Contest(name=name, base=HAND, contestants=contestants, goals=[Goal(OURS, (HAND,), 0.95)])
