"""A process of a race on one SQLite file: ten threads that pay under one key, all at once, and tell what they were answered.

python -m tests.integration.sql.kill_racer <url> <key> <shape>
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.orm import sessionmaker

from finresilience.durable.codecs import json_codec
from finresilience.sql import KeyAnsweredError
from tests.integration.sql.kill_world import EFFECTS, PATIENCE, TABLES, World, once

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS: Final = 10


def claiming(engine: Any, key: str) -> Callable[[str], Any]:
    """Pay in one transaction with the key and the answer."""
    sessions = sessionmaker(engine)

    def pay(who: str) -> Any:
        try:
            with sessions.begin() as session:
                with TABLES.idempotency.claim(session, key, scope="race", request="r", codec=json_codec()) as claim:
                    session.execute(EFFECTS.insert().values(key=key, by=who))
                    claim.complete(f"paid by {who}")
                return f"paid by {who}"
        except KeyAnsweredError as error:
            return error.answer

    return pay


def marking(engine: Any, key: str) -> Callable[[str], Any]:
    """Handle a message in one transaction with its marker."""
    sessions = sessionmaker(engine)

    def handle(who: str) -> Any:
        with sessions.begin() as session, TABLES.inbox.once(session, group="ledger", message_id=key) as seen:
            if seen:
                session.execute(EFFECTS.insert().values(key=key, by=who))
        return type(seen).__name__

    return handle


def consuming(engine: Any, key: str) -> Callable[[str], Any]:
    """Handle a message in a transaction of the inbox's own."""
    sessions = sessionmaker(engine)

    def handle(who: str) -> Any:
        book = EFFECTS.insert().values(key=key, by=who)
        seen = TABLES.inbox.consume(sessions, lambda session: session.execute(book), group="ledger", message_id=key)
        return type(seen).__name__

    return handle


def leasing(engine: Any, key: str) -> Callable[[str], Any]:
    """Reach a provider under a lease."""

    @once(TABLES.idempotency.store(engine), key, deadline=PATIENCE, wait=PATIENCE)
    def pay(who: str) -> str:
        with engine.begin() as provider:
            provider.execute(EFFECTS.insert().values(key=key, by=who))
        return f"paid by {who}"

    return pay


SHAPES: Final = {"claiming": claiming, "marking": marking, "consuming": consuming, "leasing": leasing}


def main(url: str, key: str, shape: str) -> None:
    """Say that we are ready, wait for a word, race, and tell."""
    work, together = SHAPES[shape](World(url).engine(), key), Barrier(THREADS)

    def run(n: int) -> Any:
        together.wait(PATIENCE)
        return work(f"{n}")

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with ThreadPoolExecutor(THREADS) as pool:
        sys.stdout.write(json.dumps(list(pool.map(run, range(THREADS)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
