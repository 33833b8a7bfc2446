"""Effect, key and event in one transaction: the answer is true if and only if the effect is."""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from finresilience.durable.codecs import json_codec
from finresilience.durable.idempotent_errors import KeyInProgressError, KeyMismatchError, UnreadableReplayError
from finresilience.durable.records import KeyState
from finresilience.errors import ConfigurationError, UnknownOutcomeError
from finresilience.sql import KeyAnsweredError
from tests.integration.sql.kill_world import EFFECTS, TABLES
from tests.integration.sql.test_adding import aengine, anyio_backend, effects, engine, told, written

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["aengine", "anyio_backend", "engine"]  # fixtures


def pay(engine: Any, key: str = "k", request: Any = "50.00", before_commit: Callable[[], object] = lambda: None) -> Any:
    try:
        with Session(engine) as session, session.begin():
            with TABLES.idempotency.claim(session, key, scope="acc_7", request={"amount": request}) as claim:
                session.execute(insert(EFFECTS).values(key=key, by=request))
                TABLES.outbox.add(session, told(1))
                claim.complete({"paid": request})
            before_commit()
        return "did it"
    except KeyAnsweredError as before:
        return before.answer


def test_a_repeat_gets_the_answer_and_does_nothing(engine: Any) -> None:
    assert [pay(engine), pay(engine)] == ["did it", {"paid": "50.00"}]
    assert (effects(engine), written(engine)) == (1, [1])


async def test_an_async_repeat_gets_the_answer_and_does_nothing(aengine: Any) -> None:
    answers = []
    for _ in range(2):
        try:
            async with AsyncSession(aengine) as session, session.begin():
                async with TABLES.idempotency.claim(session, "k", scope="acc_7", request="r") as claim:
                    await session.execute(insert(EFFECTS).values(key="k", by="x"))
                    claim.complete(b'"paid"')
        except KeyAnsweredError as before:
            answers.append(before.answer)
    assert answers == ["paid"]


def test_what_is_rolled_back_leaves_the_key_free(engine: Any) -> None:
    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pay(engine, before_commit=fails)
    assert (effects(engine), written(engine)) == (0, [])
    assert pay(engine, request="60.00") == "did it"


def test_a_second_caller_waits_for_the_first_ones_transaction_and_gets_its_answer(engine: Any) -> None:
    inside, go_on, answers = Event(), Event(), list[Any]()

    def first() -> None:
        answers.append(pay(engine, before_commit=lambda: (inside.set(), go_on.wait(10))))

    threads = [Thread(target=first), Thread(target=lambda: answers.append(pay(engine)))]
    threads[0].start()
    inside.wait(10)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert "did it" in answers
    assert {"paid": "50.00"} in answers
    assert effects(engine) == 1


def test_another_request_under_the_key_is_a_mistake(engine: Any) -> None:
    pay(engine)
    with pytest.raises(KeyMismatchError):
        pay(engine, request="5000.00")


def test_a_stored_failure_is_answered_as_one(engine: Any) -> None:
    with engine.begin() as own, TABLES.idempotency.claim(own, "k", scope="s", request="r") as claim:
        claim.fail({"code": "51"})
    with pytest.raises(KeyAnsweredError) as before, engine.begin() as own:
        with TABLES.idempotency.claim(own, "k", scope="s", request="r"):
            raise AssertionError
    assert (before.value.failed, before.value.answer) == (True, {"code": "51"})


def test_a_key_that_is_leased_is_in_progress_and_one_that_nobody_knows_of_is_unknown(engine: Any) -> None:
    store = TABLES.idempotency.store(engine)
    token = store.claim("s", "k", fingerprint="r", lease=60.0).token
    for error in (KeyInProgressError, UnknownOutcomeError):
        with pytest.raises(error), engine.begin() as own, TABLES.idempotency.claim(own, "k", scope="s", request="r"):
            raise AssertionError
        if error is KeyInProgressError:
            store.mark_indeterminate(token)


def test_a_claim_that_ran_out_is_no_new_one_unless_the_caller_says_that_nothing_was_sent(engine: Any) -> None:
    store = TABLES.idempotency.store(engine)
    store.claim("s", "k", fingerprint="r", lease=0.001)
    while not getattr(store.find("s", "k"), "is_unsettled", True):
        pass
    with pytest.raises(UnknownOutcomeError), engine.begin() as own, TABLES.idempotency.claim(own, "k", scope="s", request="r"):
        raise AssertionError
    with engine.begin() as own, TABLES.idempotency.claim(own, "k", scope="s", request="r", inherits=True) as claim:
        assert claim.takeovers == 1
        claim.complete("done")
    record = store.find("s", "k")
    assert record is not None
    assert record.state is KeyState.COMPLETED


def test_a_block_that_gives_no_answer_is_rolled_back(engine: Any) -> None:
    with pytest.raises(ConfigurationError, match="without an answer"), engine.begin() as own:
        with TABLES.idempotency.claim(own, "k", scope="s", request="r"):
            own.execute(insert(EFFECTS).values(key="k", by="x"))
    assert effects(engine) == 0
    assert TABLES.idempotency.store(engine).find("s", "k") is None


def test_one_claim_has_one_answer(engine: Any) -> None:
    with pytest.raises(ConfigurationError), engine.begin() as own:
        with TABLES.idempotency.claim(own, "k", scope="s", request="r") as claim:
            claim.complete(1)
            claim.fail(2)
    claim = TABLES.idempotency.claim(Session(engine), "k", scope="s", request="r")
    with pytest.raises(ConfigurationError, match="not entered"):
        claim.complete(1)


def test_an_answer_that_cannot_be_read_any_more_says_that_it_happened(engine: Any) -> None:
    with engine.begin() as own, TABLES.idempotency.claim(own, "k", scope="s", request="r") as claim:
        claim.complete(b"\xff no json")
    with pytest.raises(UnreadableReplayError), engine.begin() as own:
        with TABLES.idempotency.claim(own, "k", scope="s", request="r", codec=json_codec()):
            raise AssertionError
