"""One database for all laws of a worker: each law has a schema in it, emptied for the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import kinds
from tests.integration.sql.databases import Schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.servers.postgres import Databases


@pytest.fixture(scope="session")
def schemas(makers: Callable[[str], Databases]) -> Iterator[Schemas]:
    """Schemas of PostgreSQL 18."""
    with makers(kinds()[0]).one() as database:
        pool = Schemas(database.url("psycopg"))
        yield pool
        pool.dispose()
