"""Is the database as the code expects it? Every difference at once, before the first payment; nothing is ever migrated in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from sqlalchemy import Engine, inspect
from sqlalchemy.dialects import registry
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateIndex, CreateSchema, CreateTable

from finresilience._checks import refuse
from finresilience.errors import FinresilienceError
from finresilience.sql.dialects import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Inspector, Table


@final
class SchemaError(FinresilienceError):
    """The database is not as this version of the library needs it. Nothing was changed.

    Args:
        differences: each in one sentence.
    """

    def __init__(self, differences: Sequence[str]) -> None:
        super().__init__(tuple(differences))
        self.differences: tuple[str, ...] = tuple(differences)

    def __str__(self) -> str:
        """Say what differs, and what to do."""
        told = "\n".join(f"    {one}" for one in self.differences)
        return (
            f"the tables of this database are not as they are needed:\n{told}\n"
            "  Nothing was changed, and nothing was written.\n"
            "  Make a migration (alembic revision --autogenerate), or print the statements by tables.ddl(...), and run it before you start."
        )


def ddl(tables: Sequence[Table], dialect: str) -> str:
    """Return the statements that make these tables."""
    if dialect not in DIALECTS:
        refuse("dialect", dialect, f"one of {', '.join(DIALECTS)}")
    spelling: Any = registry.load(dialect)()
    told: list[str] = []
    schemas = dict.fromkeys(table.schema for table in tables if table.schema)
    if dialect == "postgresql":
        told += [str(CreateSchema(schema, if_not_exists=True).compile(dialect=spelling)) for schema in schemas]
    for table in tables:
        told.append(str(CreateTable(table).compile(dialect=spelling)).strip())
        told += [str(CreateIndex(index).compile(dialect=spelling)) for index in sorted(table.indexes, key=lambda index: str(index.name))]
    return "".join(f"{one};\n" for one in told)


def check(tables: Sequence[Table], engine: Engine) -> None:
    """Raise `SchemaError` unless the database has these tables, their columns and their indexes."""
    if not isinstance(engine, Engine):
        refuse("engine", engine, "an Engine; await acheck(...) for an AsyncEngine")
    with engine.connect() as connection:
        _raise_if_any(tables, connection)


async def acheck(tables: Sequence[Table], engine: AsyncEngine) -> None:
    """Raise `SchemaError` unless the database has these tables, their columns and their indexes."""
    if not isinstance(engine, AsyncEngine):
        refuse("engine", engine, "an AsyncEngine; check(...) for an Engine")
    async with engine.connect() as connection:
        await connection.run_sync(lambda inner: _raise_if_any(tables, inner))


def _raise_if_any(tables: Sequence[Table], connection: Any) -> None:
    looked = inspect(connection)
    found = [one for table in tables for one in _differences(table, looked, connection.dialect)]
    if found:
        raise SchemaError(found)


def _differences(table: Table, looked: Inspector, dialect: Any) -> Iterator[str]:
    name = table.fullname
    if not looked.has_table(table.name, schema=table.schema):
        yield f"table {name} is missing"
        return
    there = {column["name"]: column for column in looked.get_columns(table.name, schema=table.schema)}
    for column in table.columns:
        known = there.get(column.name)
        if known is None:
            yield f"column {name}.{column.name} is missing"
            continue
        if known["nullable"] is not column.nullable and not column.primary_key:
            yield f"column {name}.{column.name} may{'' if known['nullable'] else ' not'} be NULL"
        wanted, kind = column.type.compile(dialect), known["type"].compile(dialect)
        if _family(wanted) != _family(kind):
            yield f"column {name}.{column.name} is {kind}, and {wanted} is needed"
    yield from _missing_keys(table, looked)


def _missing_keys(table: Table, looked: Inspector) -> Iterator[str]:
    name = table.fullname
    key = looked.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"]
    wanted = [column.name for column in table.primary_key.columns]
    if key != wanted:
        yield f"the primary key of {name} is ({', '.join(key)}), and ({', '.join(wanted)}) is needed"
    unique = {tuple(one["column_names"]) for one in looked.get_unique_constraints(table.name, schema=table.schema)}
    indexes = looked.get_indexes(table.name, schema=table.schema)
    unique |= {tuple(column or "" for column in one["column_names"]) for one in indexes if one["unique"]}
    for constraint in table.constraints:
        columns = tuple(column.name for column in getattr(constraint, "columns", ()))
        if constraint.__class__.__name__ == "UniqueConstraint" and columns not in unique:
            yield f"({', '.join(columns)}) of {name} must be unique: it decides who is first"
    there = {tuple(one["column_names"]) for one in indexes}
    for index in table.indexes:
        columns = tuple(column.name for column in index.columns)
        if columns not in there:
            yield f"index {index.name} on ({', '.join(columns)}) of {name} is missing"


def _family(kind: str) -> str:
    """Return the type without its length, by the name that all its synonyms share."""
    plain = kind.upper().partition("(")[0].strip()
    same = {"INT": "INTEGER", "CHAR": "VARCHAR", "CHARACTER VARYING": "VARCHAR", "DATETIME": "TIMESTAMP", "BYTEA": "BLOB"}
    return same.get(plain, plain)
