"""How many rows would a purge or a replay touch? Known where the tables are: the stores themselves have no such question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from finresilience.cli.app import App


async def published_between(app: App, since: datetime, until: datetime) -> int | None:
    """Return how many kept rows were published in this window, or None if nobody knows."""
    if app.tables is None:
        return None
    at = app.tables.outbox.table.c.published_at
    return await _counted(app, app.tables.outbox.table, at >= since, at < until)


async def published_before(app: App, age: float) -> int | None:
    """Return how many kept rows were published longer ago, or None if nobody knows."""
    if app.tables is None:
        return None
    return await _counted(app, app.tables.outbox.table, _past(app, "published_at", age, strictly=True))


async def finished_before(app: App, age: float, scope: str | None) -> int | None:
    """Return how many keys were finished that long ago or longer, or None if nobody knows."""
    if app.tables is None:
        return None
    table = app.tables.idempotency.table
    conditions = [table.c.state.in_(("completed", "failed_final")), _past(app, "changed_at", age), _past(app, "began_at", age)]
    if scope is not None:
        conditions.append(table.c.scope == scope)
    return await _counted(app, table, *conditions)


def _past(app: App, column: str, age: float, *, strictly: bool = False) -> Any:
    """Say that a column is older than `age` by the database's own clock, as the store does."""
    from sqlalchemy import text

    from finresilience.sql.dialects import DIALECTS

    engine: Any = app.engine
    return text(f"{column} {'<' if strictly else '<='} {DIALECTS[engine.dialect.name].later(':before')}").bindparams(before=-age)


async def _counted(app: App, table: Any, *conditions: Any) -> int:
    from sqlalchemy import func, select
    from sqlalchemy.ext.asyncio import AsyncEngine

    question = select(func.count()).select_from(table).where(*conditions)
    if isinstance(app.engine, AsyncEngine):
        async with app.engine.connect() as asked:
            return int((await asked.execute(question)).scalar_one())
    engine: Any = app.engine
    with engine.connect() as connection:
        return int(connection.execute(question).scalar_one())
