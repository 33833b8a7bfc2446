"""The store is slow, or down: nothing is run without it, and no answer is lost to it."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from finresilience import ConfigurationError
from finresilience.durable.errors import StoreFullError
from finresilience.durable.records import KeyState
from finresilience.testing import run_virtual
from tests.integrations.idempotency_shop import Shop

# ---------------------------------------------------------------- a store that fails


class Failing:
    """A store that fails in some of its methods: by raising, or by never answering."""

    def __init__(self, books: Any, **fails: Any) -> None:
        self.books, self.fails = books, fails
        self.max_response = books.max_response

    async def _do(self, name: str, *args: Any, **kwargs: Any) -> Any:
        fault = self.fails.get(name)
        if isinstance(fault, BaseException):
            raise fault
        if fault == "hangs":
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        return getattr(self.books, name)(*args, **kwargs)

    async def claim(self, *args: Any, **kwargs: Any) -> Any:
        return await self._do("claim", *args, **kwargs)

    async def complete(self, *args: Any, **kwargs: Any) -> Any:
        return await self._do("complete", *args, **kwargs)

    async def fail(self, *args: Any, **kwargs: Any) -> Any:
        return await self._do("fail", *args, **kwargs)

    async def release(self, *args: Any, **kwargs: Any) -> Any:
        return await self._do("release", *args, **kwargs)

    async def mark_indeterminate(self, *args: Any, **kwargs: Any) -> Any:
        return await self._do("mark_indeterminate", *args, **kwargs)

    async def renew(self, *args: Any, **kwargs: Any) -> Any:
        return await self._do("renew", *args, **kwargs)


SICK = [OSError("down"), "hangs"]
each_loop = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def failing(**fails: Any) -> Any:
    return partial(Failing, **fails)


def as_it_is(books: Any) -> Any:
    return books


@each_loop
@pytest.mark.parametrize("fault", [*SICK, StoreFullError("keys", 1)], ids=repr)
def test_without_a_store_nothing_is_begun_and_the_caller_may_come_again(fault: Any, backend: Any) -> None:
    shop = Shop(store=failing(claim=fault))
    answer = run_virtual(shop.post, backend=backend)
    assert (answer.status, answer.type, answer.headers["retry-after"], shop.runs) == (503, "refused", "1", 0)


@each_loop
@pytest.mark.parametrize("fault", SICK, ids=repr)
@pytest.mark.parametrize(("status", "deed"), [(201, "complete"), (402, "fail"), (429, "release"), (500, "mark_indeterminate")])
def test_an_answer_that_cannot_be_stored_is_given_and_then_nobody_runs_it_again(fault: Any, status: int, deed: str, backend: Any) -> None:
    shop = Shop(status, store=failing(**{deed: fault}))

    async def story() -> None:
        assert ((await shop.post()).status, shop.state()) == (status, KeyState.IN_PROGRESS)
        assert (await shop.post()).status == 409
        shop.clock.advance(61)
        shop.store.fails.clear()
        assert ((await shop.post()).status, shop.runs) == (202, 1)

    run_virtual(story, backend=backend)


async def test_what_fails_in_the_store_is_logged_without_the_key_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop(store=failing(complete=OSError("secret k1 in a message")))
    await shop.post("key-4711")
    assert "complete failed (OSError)" in caplog.text
    assert "4711" not in caplog.text
    assert "secret" not in caplog.text
    assert shop.app.statistics()["failures"] == 1


async def test_a_sync_store_serves_as_well() -> None:
    shop = Shop(store=as_it_is)
    assert [(await shop.post()).raw for _ in range(2)] == [b'{"run":1}'] * 2


async def test_a_mistake_in_the_use_of_the_store_is_no_outage() -> None:
    shop = Shop(store=failing(claim=ConfigurationError("scope=... cannot work")))
    with pytest.raises(ConfigurationError):
        await shop.post()
