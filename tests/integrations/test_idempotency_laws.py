"""The laws of the middleware, over many schedules of those who ask at once; and the saboteurs that they catch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import Claimed, ClaimToken, KeyState, Record
from finresilience.integrations import idempotency_asgi, idempotency_exchange
from finresilience.integrations.idempotency_answers import End
from finresilience.integrations.idempotency_asgi import IdempotencyMiddleware
from finresilience.integrations.idempotency_exchange import Exchange
from finresilience.integrations.idempotency_http import key_space
from finresilience.integrations.idempotency_keys import Hold, Keys
from finresilience.testing import explore, run_virtual, turn
from tests.integrations.asgi_calls import scope_of
from tests.integrations.idempotency_shop import JSON, KEY, Handler, Shop, posted, say, tenant
from tests.laws.sabotage import each_kill, kills

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.integrations.asgi import Message, Receive, Scope, Send

SEEDS: Final = 2_000 if os.environ.get("FINRESILIENCE_DEEP") else 60
SPACE: Final = key_space("m_1")


class Till:
    """A shop in virtual time, where each payment takes a few turns, so that others come in between."""

    def __init__(self, work: Any = None, **options: Any) -> None:
        self.handler = Handler(work or self.pay)
        self.books = MemoryIdempotencyStore()
        given: dict[str, Any] = {"scope": tenant, "lease": 60.0, **options}
        self.app = IdempotencyMiddleware(self.handler, AsyncMemoryIdempotencyStore(self.books), **given)
        self.paid = 0
        self.heard: list[tuple[int, bytes]] = []

    async def pay(self, scope: Scope, receive: Receive, send: Send) -> None:
        await turn()
        self.paid += 1
        await turn()
        await say(send, 201, b"receipt %d" % self.paid)

    async def post(self, key: str = "k1", body: bytes = b"{}") -> None:
        answer = await posted(self.app, [(KEY, key)], body)
        self.heard.append((answer.status, answer.raw))

    @property
    def record(self) -> Record | None:
        return self.books.find(SPACE, "k1")


# ---------------------------------------------------------------- the laws


def law_of_those_who_ask_at_once_one_pays_and_all_hear_the_same() -> None:
    async def three_ask() -> None:
        till = Till()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(till.post)
        assert till.paid == 1
        await till.post()
        assert {status for status, _ in till.heard} <= {201, 409}
        assert {body for status, body in till.heard if status == 201} == {b"receipt 1"}

    explore(three_ask, seeds=SEEDS)


def law_whoever_is_cancelled_nobody_pays_twice() -> None:
    async def the_first_is_cancelled() -> None:
        till = Till()

        async def first() -> None:
            with anyio.move_on_after(0.001):
                await till.post()

        async with anyio.create_task_group() as group:
            group.start_soon(first)
            group.start_soon(till.post)
        await till.post()
        await till.post()
        assert till.paid <= 1
        state = None if till.record is None else till.record.state
        assert (till.paid == 1 and till.heard[-1][0] == 201) == (state is KeyState.COMPLETED)

    explore(the_first_is_cancelled, seeds=SEEDS)


def law_at_whatever_moment_it_is_cancelled_the_key_tells_the_truth() -> None:
    ends: set[tuple[int, KeyState | None]] = set()

    async def cancelled_after(turns: int) -> None:
        till = Till()

        async def cancel() -> None:
            for _ in range(turns):
                await turn()
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(till.post)
            group.start_soon(cancel)
        state = None if till.record is None else till.record.state
        ends.add((till.paid, state))
        assert (till.paid, state) in {
            *((0, None), (1, KeyState.COMPLETED)),
            *((0, KeyState.INDETERMINATE), (1, KeyState.INDETERMINATE)),
        }
        await till.post()
        assert till.paid <= 1
        assert till.heard[-1][0] == (202 if state is KeyState.INDETERMINATE else 201)

    for turns in range(14):
        run_virtual(cancelled_after, turns, backend="asyncio")
        run_virtual(cancelled_after, turns, backend="trio")
    assert len(ends) == 4, "not every moment was met"


def law_what_was_cancelled_in_the_middle_is_not_run_again() -> None:
    async def story() -> None:
        till = Till()

        async def cut(scope: Scope, receive: Receive, send: Send) -> None:
            till.paid += 1
            await anyio.sleep_forever()

        till.handler.script = [cut, till.pay]
        with anyio.move_on_after(1):
            await till.post()
        await till.post()
        assert (till.paid, till.heard[-1][0]) == (1, 202)

    run_virtual(story)


def law_an_error_that_proves_nothing_is_not_run_again() -> None:
    shop = Shop(OSError("after the money moved"), 201)

    async def story() -> None:
        with pytest.raises(OSError, match="money"):
            await shop.post()
        assert ((await shop.post()).status, shop.runs) == (202, 1)

    anyio.run(story)


def law_a_500_is_not_run_again() -> None:
    shop = Shop(500, 201)

    async def story() -> None:
        await shop.post()
        assert ((await shop.post()).status, shop.runs) == (202, 1)

    anyio.run(story)


def law_two_tenants_share_nothing() -> None:
    shop = Shop()

    async def story() -> None:
        one, other = await shop.post(tenant="m_1"), await shop.post(tenant="m_2")
        assert one.raw != other.raw

    anyio.run(story)


def law_a_key_belongs_to_one_request() -> None:
    shop = Shop()

    async def story() -> None:
        assert [(await shop.post("k1", body)).status for body in (b"1", b"2")] == [201, 422]

    anyio.run(story)


def law_an_heir_does_not_run_blindly() -> None:
    shop = Shop()
    shop.claimed_by_another()
    shop.clock.advance(61)

    async def story() -> None:
        assert ((await shop.post()).status, shop.runs) == (202, 0)

    anyio.run(story)


def law_a_long_handler_keeps_its_claim() -> None:
    async def story() -> None:
        till = Till()

        async def long(scope: Scope, receive: Receive, send: Send) -> None:
            till.paid += 1
            await anyio.sleep(300)
            await say(send)

        till.handler.script = [long]
        async with anyio.create_task_group() as group:
            group.start_soon(till.post)
            await anyio.sleep(200)
            await till.post()
        assert (till.paid, [status for status, _ in till.heard]) == (1, [409, 201])

    run_virtual(story)


def law_what_was_heard_can_be_said_again() -> None:
    """Whoever heard an answer, and then lost the line, hears it again."""
    shop = Shop()

    async def breaks(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise ConnectionError("the line broke with the last byte")

    async def story() -> None:
        with pytest.raises(ConnectionError):
            await shop.app(scope_of([(KEY, "k1")]), _one_request, breaks)
        assert ((await shop.post("k1", b"")).status, shop.runs) == (201, 1)

    anyio.run(story)


async def _one_request() -> Message:
    return {"type": "http.request", "body": b""}


def law_a_replay_hands_out_no_session() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 201, "headers": [JSON, (b"set-cookie", b"session=s3cret")]})
        await send({"type": "http.response.body", "body": b"{}"})

    shop = Shop(app)

    async def story() -> None:
        await shop.post()
        assert "set-cookie" not in (await shop.post()).headers

    anyio.run(story)


LAWS: list[Callable[[], None]] = [
    law_of_those_who_ask_at_once_one_pays_and_all_hear_the_same,
    law_whoever_is_cancelled_nobody_pays_twice,
    law_at_whatever_moment_it_is_cancelled_the_key_tells_the_truth,
    law_what_was_cancelled_in_the_middle_is_not_run_again,
    law_an_error_that_proves_nothing_is_not_run_again,
    law_a_500_is_not_run_again,
    law_two_tenants_share_nothing,
    law_a_key_belongs_to_one_request,
    law_an_heir_does_not_run_blindly,
    law_a_long_handler_keeps_its_claim,
    law_what_was_heard_can_be_said_again,
    law_a_replay_hands_out_no_session,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
def test_it_keeps_the_law(law: Any) -> None:
    law()


# ---------------------------------------------------------------- saboteurs


def looks_before_it_claims(patch: pytest.MonkeyPatch) -> None:
    """The saboteur of all saboteurs: check, then act."""

    async def claim(self: Keys, space: str, key: str, fingerprint: str) -> Any:
        known = await self.store.find(space, key)
        found = await self.store.claim(space, key, fingerprint=fingerprint, lease=60.0)
        return Claimed(token=ClaimToken(space, key, 1), lease=60.0) if known is None else found

    patch.setattr(Keys, "claim", claim)


def forgets_who_asks(patch: pytest.MonkeyPatch) -> None:
    def everybody(owner: str, operation: str = "") -> str:
        return "everybody"

    patch.setattr(idempotency_asgi, "key_space", everybody)


def forgets_what_is_asked(patch: pytest.MonkeyPatch) -> None:
    def any_request(request: object, told_by: object) -> str:
        return "1:same"

    patch.setattr(idempotency_asgi, "fingerprint_of", any_request)


def takes_an_error_for_a_no(patch: pytest.MonkeyPatch) -> None:
    def hopeful(*_: Any, **__: Any) -> End:
        return End.RELEASE

    patch.setattr(idempotency_exchange, "end_of_error", hopeful)


def takes_a_500_for_a_no(patch: pytest.MonkeyPatch) -> None:
    end = Exchange._end

    def hopeful(self: Exchange, answered: Any) -> End:
        return End.RELEASE if answered.status == 500 else end(self, answered)

    patch.setattr(Exchange, "_end", hopeful)


def runs_as_an_heir(patch: pytest.MonkeyPatch) -> None:
    def nothing_to_ask(self: object, asked: object, claim: object) -> None:
        return

    patch.setattr(IdempotencyMiddleware, "_before", nothing_to_ask)


def never_renews(patch: pytest.MonkeyPatch) -> None:
    async def sleeps(self: Keys, hold: Hold) -> None:
        return

    patch.setattr(Keys, "renewing", sleeps)


def frees_what_nobody_knows(patch: pytest.MonkeyPatch) -> None:
    settle = Hold.settle

    async def tidy(self: Hold, end: End, *args: Any, **kwargs: Any) -> None:
        await settle(self, End.RELEASE if end is End.INDETERMINATE else end, *args, **kwargs)

    patch.setattr(Hold, "settle", tidy)


def answers_before_it_stores(patch: pytest.MonkeyPatch) -> None:
    async def hasty(self: Exchange, hold: Hold, message: Message, start: Message) -> None:
        await self._send(start)
        await self._send(message)
        self._parts.append(message.get("body", b""))
        await self._answered(hold, start)

    patch.setattr(Exchange, "_body", hasty)


def keeps_every_header(patch: pytest.MonkeyPatch) -> None:
    class Everything(frozenset[str]):
        def __contains__(self, name: object) -> bool:
            return True

    def kept(names: object) -> Everything:
        return Everything()

    patch.setattr(idempotency_asgi, "kept_headers", kept)


@each_kill(
    (looks_before_it_claims, law_of_those_who_ask_at_once_one_pays_and_all_hear_the_same),
    (frees_what_nobody_knows, law_what_was_cancelled_in_the_middle_is_not_run_again),
    (frees_what_nobody_knows, law_at_whatever_moment_it_is_cancelled_the_key_tells_the_truth),
    (forgets_who_asks, law_two_tenants_share_nothing),
    (forgets_what_is_asked, law_a_key_belongs_to_one_request),
    (takes_an_error_for_a_no, law_an_error_that_proves_nothing_is_not_run_again),
    (takes_a_500_for_a_no, law_a_500_is_not_run_again),
    (runs_as_an_heir, law_an_heir_does_not_run_blindly),
    (never_renews, law_a_long_handler_keeps_its_claim),
    (answers_before_it_stores, law_what_was_heard_can_be_said_again),
    (keeps_every_header, law_a_replay_hands_out_no_session),
)
def test_the_law_catches(row: Any) -> None:
    kills(*row)
