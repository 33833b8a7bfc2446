"""One key, one request, one effect, one answer: whoever asks, as often as they ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience import ConfigurationError, current_key
from finresilience.durable.records import KeyState
from finresilience.integrations.idempotency_asgi import IdempotencyMiddleware
from finresilience.integrations.idempotency_http import json_fingerprint
from finresilience.integrations.problems import Problems
from tests.integrations.asgi_calls import Spy, at_once, nothing_to_receive, scope_of, without_addresses
from tests.integrations.idempotency_shop import JSON, KEY, Shop, say, tenant

if TYPE_CHECKING:
    from finresilience.integrations.asgi import Message, Receive, Scope, Send


# ---------------------------------------------------------------- a repeat


async def test_a_repeat_gets_the_answer_of_the_first_and_runs_nothing() -> None:
    shop = Shop()
    first, repeat = await shop.post(), await shop.post()
    assert (first.status, first.raw, shop.runs) == (201, b'{"run":1}', 1)
    assert (repeat.status, repeat.raw) == (first.status, first.raw)
    assert (first.headers.get("idempotent-replayed"), repeat.headers["idempotent-replayed"]) == (None, "true")


async def test_another_key_is_another_request() -> None:
    shop = Shop()
    assert [(await shop.post(key)).raw for key in ("k1", "k2", "k1")] == [b'{"run":1}', b'{"run":2}', b'{"run":1}']


async def test_quoted_and_bare_and_by_either_name_it_is_one_key() -> None:
    shop = Shop()
    await shop.post("k1")
    await shop.post('"k1"')
    await shop.post(None, headers=[("X-Idempotency-Key", "k1")])
    assert shop.runs == 1


async def test_defect_19_the_key_of_one_tenant_never_shows_the_answer_of_another() -> None:
    shop = Shop()
    mine = await shop.post("k1", b'{"amount":1}', tenant="m_1")
    theirs = await shop.post("k1", b'{"amount":2}', tenant="m_2")
    assert (mine.raw, theirs.raw, shop.runs) == (b'{"run":1}', b'{"run":2}', 2)


@pytest.mark.parametrize("state", ["finished", "in progress", "indeterminate", "run out"])
async def test_defect_20_another_body_is_refused_in_every_state_of_the_key(state: str) -> None:
    shop = Shop()
    if state == "finished":
        await shop.post()
    else:
        claimed = shop.claimed_by_another()
        if state == "indeterminate":
            shop.books.mark_indeterminate(claimed.token)
        if state == "run out":
            shop.clock.advance(61)
    before = (shop.runs, shop.state())
    answer = await shop.post("k1", b'{"amount":2}')
    assert (answer.status, answer.type) == (422, "key-reused")
    assert (shop.runs, shop.state()) == before


@pytest.mark.parametrize(
    "other",
    [{"path": "/refunds"}, {"method": "PATCH"}, {"query_string": b"currency=EUR"}, {"headers": [("Content-Type", "text/plain")]}],
    ids=repr,
)
async def test_another_path_method_query_or_kind_of_content_is_another_request(other: Any) -> None:
    shop = Shop()
    await shop.post(headers=[("Content-Type", "application/json")])
    request: dict[str, Any] = {"headers": [("Content-Type", "application/json")], **other}
    answer = await shop.post(**request)
    assert (answer.status, answer.type, shop.runs) == (422, "key-reused", 1)


async def test_a_charset_that_a_new_client_adds_is_no_other_request() -> None:
    shop = Shop()
    for written in ("application/json", "Application/JSON; charset=utf-8"):
        await shop.post(headers=[("Content-Type", written)])
    assert shop.runs == 1


async def test_json_may_be_written_anew_if_you_say_so() -> None:
    shop = Shop(fingerprint=json_fingerprint("sent_at"))
    headers = [("Content-Type", "application/json")]
    for body in (b'{"a":1,"b":[1.0],"sent_at":1}', b'{ "b": [1.0], "sent_at": 2, "a": 1 }'):
        await shop.post("k1", body, headers=headers)
    other = await shop.post("k1", b'{"a":1,"b":[1]}', headers=headers)
    assert (shop.runs, other.type) == (1, "key-reused")


async def test_what_is_in_progress_is_409_and_says_when_to_come_again() -> None:
    shop = Shop()
    shop.claimed_by_another()
    answer = await shop.post()
    assert (answer.status, answer.type, answer.headers["retry-after"], shop.runs) == (409, "key-in-use", "5", 0)


async def test_a_repeat_may_wait_for_the_first() -> None:
    shop = Shop(wait=20)
    claimed = shop.claimed_by_another()
    shop.store._pause = _after(2, lambda: shop.books.release(claimed.token))
    assert ((await shop.post()).status, shop.clock.waits) == (201, [5.0, 5.0])


async def test_a_repeat_that_has_waited_long_enough_is_409() -> None:
    shop = Shop(wait=12)
    shop.claimed_by_another()
    assert ((await shop.post()).status, shop.clock.waits) == (409, [5.0, 5.0, 2.0])


def _after(count: int, act: Any) -> Any:
    asked = []

    async def pause() -> None:
        asked.append(1)
        if len(asked) == count + 1:
            act()

    return pause


# ---------------------------------------------------------------- what is kept


async def test_a_replay_has_the_headers_that_are_kept_and_no_others() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        secrets = [(b"set-cookie", b"session=s3cret"), (b"authorization", b"s3cret"), (b"X-Trace", b"t1")]
        await say(send, 201, b"{}", (b"Location", b"/payments/1"), (b"ETag", b'"v1"'), *secrets)

    shop = Shop(app)
    first, repeat = await shop.post(), await shop.post()
    assert first.headers["set-cookie"] == "session=s3cret"
    assert set(repeat.headers) == {"content-type", "location", "etag", "content-length", "idempotent-replayed"}
    record = shop.record()
    assert record is not None
    assert b"s3cret" not in record.response


async def test_headers_of_your_own_can_be_kept() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, 201, b"{}", (b"x-payment", b"p1"))

    shop = Shop(app, keep_headers=("X-Payment",))
    await shop.post()
    repeat = await shop.post()
    assert (repeat.headers["x-payment"], "content-type" in repeat.headers) == ("p1", False)


async def test_an_answer_without_a_body_is_replayed_without_one() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    shop = Shop(app)
    await shop.post()
    repeat = await shop.post()
    assert (repeat.status, repeat.raw, "content-length" in repeat.headers) == (204, b"", False)


async def test_an_answer_in_parts_is_sent_and_kept_whole() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
        for part in (b"[1", b",2"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"]"})

    shop = Shop(app)
    assert [(await shop.post()).raw for _ in range(2)] == [b"[1,2]", b"[1,2]"]


async def test_the_answer_is_stored_before_it_is_heard() -> None:
    shop, states = Shop(), list[Any]()

    async def send(message: Message) -> None:
        states.append(shop.state())

    await shop.app(scope_of([(KEY, "k1")]), nothing_to_receive, send)
    assert states == [KeyState.COMPLETED, KeyState.COMPLETED]


async def test_a_background_task_neither_delays_the_answer_nor_changes_it() -> None:
    heard: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send)
        heard.append(shop.state())
        raise OSError("the mail server is down")

    shop = Shop(app)
    with pytest.raises(OSError, match="mail"):
        await shop.post()
    assert (heard, (await shop.post()).status, shop.runs) == ([KeyState.COMPLETED], 201, 1)


# ---------------------------------------------------------------- what passes untouched


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_other_methods_pass_untouched(method: str) -> None:
    shop = Shop()
    assert [(await shop.post(method=method)).raw for _ in range(2)] == [b'{"run":1}', b'{"run":2}']


async def test_only_what_applies_is_guarded() -> None:
    def applies(scope: Scope) -> bool:
        return str(scope["path"]).startswith("/payments")

    shop = Shop(applies=applies)
    assert [(await shop.post(None, path=path)).status for path in ("/payments", "/login")] == [400, 201]


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_what_is_no_http_request_passes_untouched(kind: str) -> None:
    spy = Spy(current_key)

    async def unsendable(message: Message) -> None:
        raise ConnectionError

    await IdempotencyMiddleware(spy, Shop().store, scope=tenant)(scope_of(type=kind), nothing_to_receive, unsendable)
    assert spy.saw == [None]


async def test_ways_to_send_a_body_past_us_are_not_offered_inside() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(sorted(scope["extensions"]))
        await say(send)

    shop = Shop(app)
    offered: dict[str, Any] = {"http.response.pathsend": {}, "http.response.trailers": {}, "tls": {}}
    await shop.post(extensions=offered)
    assert (seen, len(offered)) == ([["tls"]], 3)


async def test_what_the_application_notes_in_the_scope_can_be_read_outside() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = "/payments"
        await say(send)

    scope = scope_of([(KEY, "k1")])
    await Shop(app).app(scope, nothing_to_receive, _nowhere)
    assert scope["route"] == "/payments"


async def _nowhere(message: Message) -> None:
    return


# ---------------------------------------------------------------- set-up


WRONG: list[dict[str, Any]] = [
    {"scope": None},
    {"scope": "m_1"},
    {"store": object()},
    {"methods": ("GET", "POST")},
    {"methods": ()},
    {"applies": True},
    {"operation": "pay"},
    {"fingerprint": "sha"},
    {"max_body": 0},
    {"max_response": 0},
    {"keep_headers": ("Set-Cookie",)},
    {"keep_headers": ("authorization",)},
    {"keep_headers": ("Content-Length",)},
    {"keep_headers": ("a b",)},
    {"lease": 0},
    {"lease": float("nan")},
    {"lease": 10.0, "store_timeout": 5.0},
    {"renew_for": -1},
    {"on_takeover": "again"},
    {"ends": {}},
    {"classify": {}},
    {"wait": -1},
    {"ask_again": 0},
    {"problems": {}},
]


@pytest.mark.parametrize("wrong", WRONG, ids=without_addresses)
def test_what_cannot_work_is_refused_at_once(wrong: Any) -> None:
    store = wrong.pop("store", Shop().store)
    make: Any = IdempotencyMiddleware
    with pytest.raises(ConfigurationError):
        make(Spy(), store, **{"scope": tenant, **wrong})


async def test_a_fingerprint_of_another_kind_stops_the_request() -> None:
    def wrong(request: object) -> int:
        return 7

    shop = Shop(fingerprint=wrong)
    with pytest.raises(ConfigurationError, match="fingerprint"):
        await shop.post()
    assert (shop.runs, len(shop)) == (0, 0)


async def test_the_types_of_problems_can_be_yours() -> None:
    shop = Shop(problems=Problems(types="https://api.acme.test/problems/"))
    shop.claimed_by_another()
    assert (await shop.post()).body["type"] == "https://api.acme.test/problems/key-in-use"


async def test_it_counts_what_it_did() -> None:
    shop = Shop()
    for body in (b"1", b"1", b"2"):
        await shop.post("k1", body)
    counts = shop.app.statistics()
    assert {name: count for name, count in counts.items() if count} == {"executed": 1, "complete": 1, "replayed": 1, "reused": 1}


def test_a_request_without_a_key_is_answered_without_an_event_loop() -> None:
    assert at_once(Shop().post(None)).status == 400
