"""The tables are the user's to see, to name, to migrate and to check; nothing is made or changed in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from finresilience.errors import ConfigurationError
from finresilience.sql import SchemaError, Tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    url = f"sqlite:///{tmp_path / 'it.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres").url("psycopg")
    engine = create_engine(url)
    yield engine
    engine.dispose()


def run(engine: Any, statements: str) -> None:
    with engine.begin() as own:
        for statement in filter(str.strip, statements.split(";\n")):
            own.exec_driver_sql(statement)


def test_what_is_printed_makes_what_is_checked(engine: Any) -> None:
    tables = Tables(MetaData())
    with pytest.raises(SchemaError) as refused:
        tables.check(engine)
    assert [one for one in refused.value.differences if "is missing" not in one] == []
    assert len(refused.value.differences) == len(tables.all)
    run(engine, tables.ddl(engine.dialect.name))
    tables.check(engine)


def test_alembic_finds_no_difference(engine: Any) -> None:
    metadata = MetaData()
    Tables(metadata)
    metadata.create_all(engine)
    with engine.connect() as own:
        context = MigrationContext.configure(own, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_alembic_finds_no_difference_in_a_schema_of_its_own(postgres: Any) -> None:
    engine, metadata = create_engine(postgres.url("psycopg")), MetaData()
    tables = Tables(metadata, schema="fin")
    run(engine, tables.ddl("postgresql"))
    tables.check(engine)
    with engine.connect() as own:
        only = {"include_schemas": True, "include_name": lambda name, kind, _: kind != "schema" or name == "fin"}
        context = MigrationContext.configure(own, opts={"compare_type": True, "compare_server_default": True} | only)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("DROP TABLE fin_inbox_mark", "table fin_inbox_mark is missing"),
        ("ALTER TABLE fin_idempotency DROP COLUMN evidence", "column fin_idempotency.evidence is missing"),
        ("DROP INDEX ix_fin_outbox_pending", "index ix_fin_outbox_pending on (part, seq) of fin_outbox is missing"),
    ],
)
def test_every_difference_is_named(engine: Any, harm: str, told: str) -> None:
    metadata = MetaData()
    tables = Tables(metadata)
    metadata.create_all(engine)
    run(engine, harm)
    with pytest.raises(SchemaError) as refused:
        tables.check(engine)
    assert refused.value.differences == (told,)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("ALTER TABLE fin_idempotency DROP CONSTRAINT uq_fin_idempotency_scope_key", "must be unique: it decides who is first"),
        ("ALTER TABLE fin_outbox ALTER payload TYPE text USING ''", "column fin_outbox.payload is TEXT, and BYTEA is needed"),
        ("ALTER TABLE fin_outbox ALTER tenant SET NOT NULL", "column fin_outbox.tenant may not be NULL"),
        (
            "ALTER TABLE fin_inbox DROP CONSTRAINT pk_fin_inbox",
            "the primary key of fin_inbox is (), and (tenant, consumer_group, message_id)",
        ),
    ],
)
def test_what_would_let_two_in_is_named(postgres: Any, harm: str, told: str) -> None:
    engine, metadata = create_engine(postgres.url("psycopg")), MetaData()
    tables = Tables(metadata)
    metadata.create_all(engine)
    run(engine, harm)
    with pytest.raises(SchemaError) as refused:
        tables.check(engine)
    assert any(told in one for one in refused.value.differences), refused.value.differences
    engine.dispose()


async def test_an_async_engine_is_checked_by_awaiting(tmp_path: Path) -> None:
    import anyio
    from sniffio import current_async_library

    if current_async_library() == "trio":  # SQLAlchemy's async engines need asyncio: see who says so
        await anyio.lowlevel.checkpoint()
        return
    tables, engine = Tables(MetaData()), create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'it.db'}")
    with pytest.raises(SchemaError):
        await tables.acheck(engine)
    async with engine.begin() as own:
        await own.run_sync(tables.outbox.table.metadata.create_all)
    await tables.acheck(engine)
    with pytest.raises(ConfigurationError):
        tables.check(engine)  # type: ignore[arg-type] - what is under test
    await engine.dispose()


def test_tables_have_the_names_that_they_are_given(engine: Any) -> None:
    metadata = MetaData()
    tables = Tables(metadata, prefix="pay_", names={"outbox": "Events and all"})
    metadata.create_all(engine)
    assert tables.outbox.table.name == "Events and all"
    assert tables.inbox.table.name == "pay_inbox"
    store = tables.outbox.store(engine)
    assert store.statistics().pending == 0
    assert tables.idempotency.store(engine).find("s", "k") is None


def test_two_tenants_with_a_schema_each_share_nothing(postgres: Any) -> None:
    engine = create_engine(postgres.url("psycopg"))
    tenants = [Tables(MetaData(), schema=f"tenant_{n}") for n in range(2)]
    for tables in tenants:
        run(engine, tables.ddl("postgresql"))
        assert type(tables.idempotency.store(engine).claim("s", "k", fingerprint="f", lease=60)).__name__ == "Claimed"
    engine.dispose()


@pytest.mark.parametrize(
    "wrong",
    [
        {"metadata": None},
        {"partitions": 0},
        {"partitions": 5000},
        {"names": {"outbx": "events"}},
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Tables(**{"metadata": MetaData()} | wrong)


def test_a_name_that_would_read_as_a_parameter_is_refused(engine: Any) -> None:
    tables = Tables(MetaData(), names={"idempotency": "keys:of"})
    with pytest.raises(ConfigurationError, match="letters"):
        tables.idempotency.store(engine)


def test_the_number_of_partitions_is_fixed_for_the_life_of_the_table(engine: Any) -> None:
    from finresilience.durable.outbox import LeaseTerms

    metadata = MetaData()
    many = Tables(metadata, partitions=16)
    metadata.create_all(engine)
    many.outbox.store(engine).claim("relay", at_most=16, terms=LeaseTerms(lease=5.0))
    few = Tables(MetaData(), partitions=8)
    with pytest.raises(ConfigurationError, match="partitions=16"):
        few.outbox.store(engine).claim("relay", at_most=16, terms=LeaseTerms(lease=5.0))


def test_a_database_that_we_do_not_speak_is_refused() -> None:
    class Foreign:
        name = "oracle"

    with pytest.raises(ConfigurationError):
        Tables(MetaData()).outbox.store(Foreign())  # type: ignore[call-overload] - what is under test
    with pytest.raises(ConfigurationError):
        Tables(MetaData()).ddl("oracle")


def test_no_statement_of_the_schema_is_run_by_itself(engine: Any) -> None:
    with pytest.raises(Exception, match=r"fin_idempotency"):
        Tables(MetaData()).idempotency.store(engine).find("s", "k")
    with engine.connect() as own:
        assert own.execute(text("SELECT 1")).scalar() == 1
