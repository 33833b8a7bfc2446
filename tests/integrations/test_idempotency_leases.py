"""A claim is held while the work runs, and by nobody for ever. Who finds one that ran out asks first, and never simply runs again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import AttemptOverError, mark_sent
from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import KeyState
from finresilience.integrations.asgi import owned_key
from finresilience.integrations.idempotency_answers import HttpAnswer
from finresilience.integrations.idempotency_asgi import IdempotencyMiddleware, TakenOver
from finresilience.integrations.idempotency_http import key_space
from finresilience.outcome import Found, NotFound, StillUnknown
from finresilience.testing import run_virtual
from tests.integrations.idempotency_shop import KEY, Handler, Shop, posted, say, tenant

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.integrations.asgi import Receive, Scope, Send

each_loop = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Slow:
    """A shop in virtual time, whose handler takes its time."""

    def __init__(self, seconds: float, **options: Any) -> None:
        self.seconds = seconds
        self.handler = Handler(self.work)
        self.books = MemoryIdempotencyStore()
        self.store = AsyncMemoryIdempotencyStore(self.books)
        given: dict[str, Any] = {"scope": tenant, "lease": 60.0, **options}
        self.app = IdempotencyMiddleware(self.handler, self.store, **given)

    async def work(self, scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep(self.seconds)
        await say(send)

    async def post(self) -> int:
        return (await posted(self.app, [(KEY, "k1")], b"{}")).status

    @property
    def state(self) -> KeyState | None:
        found = self.books.find(key_space("m_1"), "k1")
        return None if found is None else found.state


# ---------------------------------------------------------------- while the work runs


@each_loop
def test_defect_21_a_handler_that_outlives_its_lease_many_times_runs_once(backend: Any) -> None:
    async def story() -> tuple[list[int], int]:
        shop, heard = Slow(600.0), list[int]()
        async with anyio.create_task_group() as group:
            group.start_soon(shop.post)
            for _ in range(11):
                await anyio.sleep(50)
                heard.append(await shop.post())
        return [*heard, await shop.post()], shop.handler.runs

    assert run_virtual(story, backend=backend) == ([409] * 11 + [201], 1)


@each_loop
def test_a_handler_that_hangs_does_not_hold_its_key_for_ever(backend: Any) -> None:
    async def story() -> tuple[int, KeyState | None, int]:
        shop, heard = Slow(100_000.0, renew_for=300.0), list[int]()
        async with anyio.create_task_group() as group:
            group.start_soon(shop.post)
            await anyio.sleep(300 + 61)
            heard.append(await shop.post())
            group.cancel_scope.cancel()
        return heard[0], shop.state, shop.handler.runs

    assert run_virtual(story, backend=backend) == (202, KeyState.INDETERMINATE, 1)


@each_loop
@pytest.mark.parametrize("way", ["the store is gone", "somebody took over", "for long enough"])
def test_who_has_lost_the_lease_can_send_no_more(way: str, backend: Any) -> None:
    async def story() -> list[str]:
        shop, said = Slow(0.0, renew_for=100.0 if way == "for long enough" else 900.0), list[str]()

        async def work(scope: Scope, receive: Receive, send: Send) -> None:
            for _ in range(6):
                await anyio.sleep(50)
                try:
                    mark_sent()
                except AttemptOverError:
                    said.append("refused")
                    raise
                said.append("sent")
                if way == "somebody took over":
                    await _an_heir_comes(shop.books)

        async def down(*_: Any, **__: Any) -> None:
            raise OSError("down")

        shop.handler.script = [work]
        if way == "the store is gone":
            shop.store.renew = down  # type: ignore[method-assign]
        with anyio.move_on_after(1000):
            await shop.post()
        return said

    said = run_virtual(story, backend=backend)
    assert (said[0], said[-1], said.count("refused")) == ("sent", "refused", 1)


async def _an_heir_comes(books: MemoryIdempotencyStore) -> None:
    from dataclasses import replace

    at = (key_space("m_1"), "k1")
    row = books._rows.get(at, None)
    assert row is not None
    books._rows.put(at, replace(row, record=replace(row.record, fence=row.record.fence + 1)))


@each_loop
def test_one_renewal_that_fails_is_made_good_by_the_next(backend: Any) -> None:
    async def story() -> tuple[int, int]:
        shop, renew, faults = Slow(200.0), AsyncMemoryIdempotencyStore.renew, [OSError("a blip"), None, OSError("another")]

        async def shaky(token: Any, **terms: Any) -> None:
            fault = faults.pop(0) if faults else None
            if fault is not None:
                raise fault
            await renew(shop.store, token, **terms)

        shop.store.renew = shaky  # type: ignore[method-assign]
        return await shop.post(), await shop.post()

    assert run_virtual(story, backend=backend) == (201, 201)


@each_loop
def test_a_renewal_that_hangs_costs_one_third_at_most(backend: Any) -> None:
    async def story() -> tuple[int, KeyState | None]:
        shop, renew, first = Slow(200.0), AsyncMemoryIdempotencyStore.renew, [True]

        async def hangs_once(token: Any, **terms: Any) -> None:
            if first.pop() if first else False:
                await anyio.sleep_forever()
            await renew(shop.store, token, **terms)

        shop.store.renew = hangs_once  # type: ignore[method-assign]
        return await shop.post(), shop.state

    assert run_virtual(story, backend=backend) == (201, KeyState.COMPLETED)


@each_loop
def test_nothing_of_it_runs_on_after_the_request(backend: Any) -> None:
    async def story() -> float:
        await Slow(1.0).post()
        return anyio.current_time()

    assert run_virtual(story, backend=backend) == pytest.approx(1.0)


@each_loop
def test_a_late_holder_still_gives_its_caller_the_answer_it_has(backend: Any) -> None:
    async def story() -> tuple[int, KeyState | None]:
        shop, heard = Slow(10.0), list[int]()

        async def first() -> None:
            heard.append(await shop.post())

        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await anyio.sleep(5)
            await _an_heir_comes(shop.books)
        return heard[0], shop.state

    assert run_virtual(story, backend=backend) == (201, KeyState.IN_PROGRESS)


# ---------------------------------------------------------------- a claim that ran out


def ran_out(*script: Any, **options: Any) -> Shop:
    """Return a shop whose first worker died in the middle of k1."""
    shop = Shop(*script, **options)
    shop.claimed_by_another()
    shop.clock.advance(61)
    return shop


async def test_a_claim_that_ran_out_is_never_simply_run_again() -> None:
    shop = ran_out()
    assert [(await shop.post()).status for _ in range(3)] == [202, 202, 202]
    assert (shop.runs, shop.state()) == (0, KeyState.INDETERMINATE)


async def test_a_handler_that_is_safe_to_repeat_may_be_repeated() -> None:
    shop = ran_out(on_takeover="repeat")
    assert [(await shop.post()).status for _ in range(2)] == [201, 201]
    assert shop.runs == 1


async def test_who_takes_over_is_told_what_to_ask_the_provider_by() -> None:
    asked: list[TakenOver] = []

    async def ask(taken_over: TakenOver) -> StillUnknown:
        asked.append(taken_over)
        return StillUnknown()

    shop = ran_out(on_takeover=ask)
    await shop.post()
    (taken_over,) = asked
    assert (taken_over.key, taken_over.request.body, taken_over.claimed.takeovers) == (owned_key(key_space("m_1"), "k1"), b"{}", 1)
    assert "k1" not in repr(taken_over)


def answering(known: Any) -> Callable[[TakenOver], Any]:
    async def ask(taken_over: TakenOver) -> Any:
        if isinstance(known, Exception):
            raise known
        return known

    return ask


FOUND = HttpAnswer.json(201, {"id": 7}, location="/payments/7")
KNOWN = {
    "found": (Found(FOUND), 201, KeyState.COMPLETED, 0),
    "found a decline": (Found(HttpAnswer.json(402, {"code": "no"})), 402, KeyState.FAILED_FINAL, 0),
    "not found": (NotFound(), 201, KeyState.COMPLETED, 1),
    "still unknown": (StillUnknown(), 202, KeyState.INDETERMINATE, 0),
    "nonsense": (True, 202, KeyState.INDETERMINATE, 0),
    "found nonsense": (Found("paid"), 202, KeyState.INDETERMINATE, 0),
}


@pytest.mark.parametrize(("known", "status", "state", "runs"), KNOWN.values(), ids=KNOWN)
async def test_what_is_found_out_decides(known: Any, status: int, state: KeyState, runs: int) -> None:
    shop = ran_out(on_takeover=answering(known))
    assert [(await shop.post()).status for _ in range(2)] == [status, status]
    assert (shop.state(), shop.runs) == (state, runs)


async def test_what_was_found_is_a_replay_and_is_replayed() -> None:
    shop = ran_out(on_takeover=answering(Found(FOUND)))
    for _ in range(2):
        answer = await shop.post()
        assert (answer.body, answer.headers["location"], answer.headers["idempotent-replayed"]) == ({"id": 7}, "/payments/7", "true")


async def test_if_it_cannot_be_asked_now_the_next_one_asks_again() -> None:
    answers: list[Any] = [OSError("the provider is down"), Found(FOUND)]

    async def ask(taken_over: TakenOver) -> Any:
        known = answers.pop(0)
        if isinstance(known, Exception):
            raise known
        return known

    shop = ran_out(on_takeover=ask)
    assert [(await shop.post()).status for _ in range(2)] == [202, 201]
    assert shop.runs == 0


async def test_defect_22_a_lease_that_ends_this_very_moment_is_over() -> None:
    shop = Shop()
    shop.claimed_by_another()
    shop.clock.advance(60)
    assert ((await shop.post()).status, (await shop.post()).status) == (202, 202)


async def test_who_dies_before_it_noted_anything_does_not_leave_409_for_ever() -> None:
    shop = Shop()
    shop.claimed_by_another()
    heard = []
    for _ in range(3):
        heard.append((await shop.post()).status)
        shop.clock.advance(60)
    assert heard == [409, 202, 202]
