"""What comes through the door: bodies, keys and owners, good and hostile. It is carried out whole, or refused whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience import ConfigurationError, Effect, Pipeline, current_key
from finresilience.integrations.asgi import owned_key
from finresilience.integrations.idempotency_http import key_space
from tests.integrations.asgi_calls import scope_of
from tests.integrations.idempotency_shop import KEY, Shop, posted, say

if TYPE_CHECKING:
    from finresilience.integrations.asgi import Message, Receive, Scope, Send


# ---------------------------------------------------------------- the request


async def test_the_application_reads_the_request_as_it_came() -> None:
    shop = Shop()
    await posted(shop.app, [(KEY, "k1")], b'{"amount"', b":50", b"}")
    assert shop.handler.bodies == [b'{"amount":50}']


async def test_after_the_request_the_application_hears_that_its_caller_hung_up() -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append((await receive())["type"])
        await say(send)

    await Shop(app).post()
    assert heard == ["http.disconnect"]


async def test_a_caller_who_hangs_up_before_the_request_is_whole_has_asked_for_nothing() -> None:
    shop = Shop()

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise ConnectionError

    await shop.app(scope_of([(KEY, "k1")]), gone, send)
    assert (shop.runs, len(shop)) == (0, 0)


@pytest.mark.parametrize("parts", [[b"x" * 11], [b"x" * 6, b"x" * 5], [b"x" * 6, b"x" * 6, b"never read"]], ids=len)
async def test_a_request_that_is_too_large_is_413_and_nothing_is_stored(parts: list[bytes]) -> None:
    shop = Shop(max_body=10)
    answer = await posted(shop.app, [(KEY, "k1")], *parts)
    assert (answer.status, answer.type, shop.runs, len(shop)) == (413, "body-too-large", 0, 0)


async def test_a_request_that_says_it_is_too_large_is_not_even_read() -> None:
    async def never() -> Message:
        pytest.fail("it was read")

    shop, sent = Shop(max_body=10), list[Any]()

    async def send(message: Message) -> None:
        sent.append(message)

    await shop.app(scope_of([(KEY, "k1"), ("Content-Length", "11")]), never, send)
    assert (sent[0]["status"], len(shop)) == (413, 0)


@pytest.mark.parametrize("length", ["", "-1", "1e3", "9" * 5000, "\xb2"])
async def test_a_length_that_is_no_number_counts_for_nothing(length: str) -> None:
    assert (await Shop().post(headers=[("Content-Length", length)])).status == 201


async def test_a_request_of_just_the_size_is_taken() -> None:
    assert (await Shop(max_body=10).post("k1", b"x" * 10)).status == 201


# ---------------------------------------------------------------- keys that are missing or bad


async def test_without_a_key_it_is_400() -> None:
    shop = Shop()
    answer = await shop.post(None)
    assert (answer.status, answer.type, shop.runs) == (400, "key-missing", 0)


async def test_where_none_is_required_a_request_without_a_key_runs_unguarded() -> None:
    shop = Shop(required=False)
    assert [(await shop.post(None)).raw for _ in range(2)] == [b'{"run":1}', b'{"run":2}']
    assert len(shop) == 0


HOSTILE = {
    "empty": "",
    "spaces": "   ",
    "quoted nothing": '""',
    "10,000 characters": "k" * 10_000,
    "256 characters": "k" * 256,
    "not UTF-8": b"\xff\xfe\xfa",
    "not ASCII": "schl\u00fcssel".encode(),
    "right to left": "\u202e1yap".encode(),
    "NUL": b"k\x001",
    "a line break": b"k\r\nX-Evil: 1",
    "two in one line": "k1, k2",
    "an open quote": '"k1',
}


@pytest.mark.parametrize("key", HOSTILE.values(), ids=HOSTILE)
async def test_a_key_that_cannot_be_one_is_400_and_nothing_is_stored(key: str | bytes) -> None:
    shop = Shop()
    answer = await shop.post(key)
    assert (answer.status, answer.type, shop.runs, len(shop)) == (400, "bad-header", 0, 0)


@pytest.mark.parametrize("others", [[(KEY, "k1")], [(KEY, "k2")], [("X-Idempotency-Key", "k2")]], ids=repr)
async def test_two_keys_are_400(others: list[Any]) -> None:
    shop = Shop()
    assert ((await shop.post("k1", headers=others)).status, len(shop)) == (400, 0)


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_whatever_comes_is_carried_out_whole_or_refused_whole(key: bytes, body: bytes) -> None:
    shop = Shop()

    async def two() -> tuple[Any, Any]:
        return await shop.post(key, body), await shop.post(key, body)

    import anyio

    first, repeat = anyio.run(two)
    kept = (shop.runs, len(shop))
    assert (first.status, kept) in {(201, (1, 1)), (400, (0, 0))}
    assert (repeat.status, repeat.raw) == (first.status, first.raw)


# ---------------------------------------------------------------- whose key it is


async def test_a_request_of_nobody_is_403() -> None:
    shop = Shop()
    answer = await shop.post(tenant=None)
    assert (answer.status, answer.type, shop.runs, len(shop)) == (403, "caller-unknown", 0, 0)


@pytest.mark.parametrize("wrong", ["", "  ", 7, b"m_1", True], ids=repr)
async def test_an_owner_that_is_nobodys_name_stops_the_request(wrong: Any) -> None:
    shop = Shop()
    with pytest.raises(ConfigurationError, match="scope"):
        await shop.post(tenant=wrong)
    assert (shop.runs, len(shop)) == (0, 0)


@pytest.mark.parametrize("who", ["m" * 5000, "m\x001", "\udcff", "\u202em", "a|b", "%7C"], ids=ascii)
async def test_any_name_of_a_tenant_keeps_its_keys_apart(who: str) -> None:
    shop = Shop()
    assert [(await shop.post(tenant=one)).raw for one in (who, "m_1", who)] == [b'{"run":1}', b'{"run":2}', b'{"run":1}']


names = st.text(min_size=1, max_size=40).filter(lambda name: bool(name.strip()))


@given(st.tuples(names, st.text(max_size=40)), st.tuples(names, st.text(max_size=40)))
def test_two_owners_or_two_operations_never_share_a_space(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (key_space(*one) == key_space(*other)) == (one == other)
    assert len(key_space(*one)) <= 255


async def test_each_operation_may_have_keys_of_its_own() -> None:
    def operation(scope: Scope) -> str:
        return f"{scope['method']} {scope['path']}"

    shop = Shop(operation=operation)
    assert [(await shop.post(path=path)).status for path in ("/payments", "/refunds")] == [201, 201]
    assert shop.books.find("POST /payments|m_1", "k1") is not None


async def test_the_request_runs_under_a_key_that_is_its_owners_alone() -> None:
    seen: list[str | None] = []
    acme = Pipeline("acme.charge", effect=Effect.IDEMPOTENT, listeners=[])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(current_key())
        seen.append(await acme.acall(_key))
        await say(send)

    shop = Shop(app)
    await shop.post(tenant="m_1")
    await shop.post(tenant="m_2")
    keys = [owned_key(who, "k1") for who in ("m_1", "m_2")]
    assert seen == [keys[0], keys[0] + ":acme.charge", keys[1], keys[1] + ":acme.charge"]


async def _key() -> str | None:
    return current_key()
