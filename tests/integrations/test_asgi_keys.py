"""A key is its caller's own: nobody reaches the payment of another by guessing, or by chance, the same key."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finresilience import ConfigurationError, Effect, MissingKeyError, Pipeline, current_key, remaining
from finresilience.context import current
from finresilience.integrations import asgi
from finresilience.integrations.asgi import DeadlineMiddleware, IdempotencyKeyMiddleware, owned_key
from finresilience.integrations.headers import incoming_key
from finresilience.testing import instant
from tests.integrations.asgi_calls import Spy, asked, at_once, fine, nothing_to_receive, scope_of, without_addresses
from tests.laws.sabotage import kills

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finresilience.integrations.asgi import Message, Receive, Scope, Send

KEY = "Idempotency-Key"
names = st.text(min_size=1, max_size=30).filter(lambda name: bool(name.strip()))


def merchant(scope: Scope) -> str | None:
    return scope["merchant"]  # type: ignore[no-any-return]  # a test says who it is


async def keys_seen(owner: Callable[[Any], Any], *requests: tuple[str, str | None]) -> list[str | None]:
    spy = Spy(current_key)
    app = IdempotencyKeyMiddleware(spy, owner=owner)
    for who, key in requests:
        await asked(app, [] if key is None else [(KEY, key)], merchant=who)
    return spy.saw


# ---------------------------------------------------------------- whose key


def law_two_callers_never_share_a_key(make: Callable[[str, str], str], one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (make(*one) == make(*other)) == (one == other)


@given(st.tuples(names, names), st.tuples(names, names))
def test_two_callers_never_share_a_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    law_two_callers_never_share_a_key(owned_key, one, other)
    law_two_callers_never_share_a_key(owned_key, one, one)
    law_two_callers_never_share_a_key(owned_key, one, (other[0], one[1]))
    law_two_callers_never_share_a_key(owned_key, one, (one[0], other[1]))


def test_the_law_catches_keys_that_are_only_glued_together() -> None:
    def glued(owner: str, key: str) -> str:
        """The saboteur: where the owner ends and the key begins is anybody's guess."""
        return f"{owner}:{key}"

    with pytest.raises(AssertionError):
        law_two_callers_never_share_a_key(glued, ("a", "b:c"), ("a:b", "c"))


async def test_the_same_key_of_two_merchants_is_two_keys() -> None:
    one, other = await keys_seen(merchant, ("m_1", "pay_1"), ("m_2", "pay_1"))
    assert one != other


def leaks(patch: pytest.MonkeyPatch) -> None:
    """The saboteur: the key is taken as it comes, whoever sends it."""

    def plain(owner: str, key: str) -> str:
        return key

    patch.setattr(asgi, "owned_key", plain)


def test_the_law_catches_a_middleware_that_leaks() -> None:
    import anyio

    def law() -> None:
        one, other = anyio.run(keys_seen, merchant, ("m_1", "pay_1"), ("m_2", "pay_1"))
        assert one != other

    kills(leaks, law)


async def test_a_repeat_of_one_merchant_has_the_key_of_the_first() -> None:
    one, other = await keys_seen(merchant, ("m_1", "pay_1"), ("m_1", '"pay_1"'))
    assert one == other


async def test_the_key_is_readable_and_does_not_name_the_merchant() -> None:
    (key,) = await keys_seen(merchant, ("m_4711", "pay_1"))
    assert key is not None
    assert key.startswith("pay_1.")
    assert "4711" not in key


async def test_a_call_inside_derives_its_key_from_the_requests() -> None:
    seen: list[str | None] = []
    acme = Pipeline("acme.charge", effect=Effect.IDEMPOTENT, listeners=[])

    async def charge() -> None:
        seen.append(current_key())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await acme.acall(charge)
        await fine(send)

    await asked(IdempotencyKeyMiddleware(app, owner=merchant), [(KEY, "pay_1")], merchant="m_1")
    assert seen == [owned_key("m_1", "pay_1") + ":acme.charge"]


async def test_the_callers_own_key_is_there_for_your_records() -> None:
    spy = Spy()
    await asked(IdempotencyKeyMiddleware(spy, owner=merchant), [(KEY, '"pay_1"')], merchant="m_1")
    assert incoming_key(spy.scopes[0]) == "pay_1"


async def test_after_the_request_its_key_is_gone() -> None:
    await keys_seen(merchant, ("m_1", "pay_1"))
    assert current.get() is None


@pytest.mark.parametrize("wrong", ["", "  ", 7, b"m_1", True], ids=repr)
async def test_an_owner_that_is_nobodys_name_stops_the_request(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="owner"):
        await keys_seen(merchant, (wrong, "pay_1"))


async def test_who_cannot_be_told_stops_the_request() -> None:
    def unknown(scope: Scope) -> str:
        raise LookupError

    with pytest.raises(LookupError):
        await keys_seen(unknown, ("m_1", "pay_1"))


async def test_nobodys_request_has_no_key() -> None:
    assert await keys_seen(lambda _: None, ("m_1", "pay_1")) == [None]


# ---------------------------------------------------------------- without a key, and with a bad one


async def test_a_request_without_a_key_has_none() -> None:
    assert await keys_seen(merchant, ("m_1", None)) == [None]


@pytest.mark.parametrize(("method", "status"), [("POST", 400), ("PATCH", 400), ("GET", 200)])
async def test_a_missing_key_is_refused_where_one_is_required(method: str, status: int) -> None:
    spy = Spy()
    app = IdempotencyKeyMiddleware(spy, owner=merchant, required_for=("POST", "patch"))
    answer = await asked(app, merchant="m_1", method=method)
    assert (answer.status, len(spy.scopes)) == (status, status == 200)
    assert status == 200 or answer.type == "key-missing"


async def test_a_bad_key_is_refused_and_not_repeated() -> None:
    spy = Spy()
    answer = await asked(IdempotencyKeyMiddleware(spy, owner=merchant), [(KEY, "4111111111111111, x")], merchant="m_1")
    assert (answer.status, answer.type, answer.body["header"], spy.scopes) == (400, "bad-header", KEY, [])
    assert b"4111" not in answer.raw


async def test_an_error_of_the_application_passes_through() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise MissingKeyError

    with pytest.raises(MissingKeyError):
        await asked(IdempotencyKeyMiddleware(app, owner=merchant), [(KEY, "pay_1")], merchant="m_1")


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_what_is_no_http_request_passes_untouched(kind: str) -> None:
    spy = Spy(current.get)

    async def unsendable(message: Message) -> None:
        raise ConnectionError

    await IdempotencyKeyMiddleware(spy, owner=merchant)(scope_of(type=kind), nothing_to_receive, unsendable)
    assert spy.saw == [None]


@given(st.binary(max_size=300))
def test_whatever_key_comes_the_request_runs_under_a_key_of_its_owner_or_not_at_all(text: bytes) -> None:
    spy = Spy(current_key)
    answer = at_once(asked(IdempotencyKeyMiddleware(spy, owner=merchant), [(KEY, text)], merchant="m_1"))
    assert (answer.status, len(spy.saw)) in {(200, 1), (400, 0)}
    if spy.saw:
        key = incoming_key(spy.scopes[0])
        assert key is not None
        assert spy.saw[0] in {owned_key("m_1", key), "fr-" + sha256(owned_key("m_1", key).encode()).hexdigest()}  # too long: a digest


# ---------------------------------------------------------------- with a deadline


async def test_the_deadline_is_known_inside_and_ends_with_the_answer() -> None:
    left: list[float | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        left.append(remaining())
        await fine(send)
        left.append(remaining())

    with instant():
        await asked(DeadlineMiddleware(IdempotencyKeyMiddleware(app, owner=merchant), at_most=10), [(KEY, "pay_1")], merchant="m_1")
    assert left == [10, None]


async def test_after_the_answer_the_key_is_still_the_payments() -> None:
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await fine(send)
        seen.append(current_key())

    await asked(IdempotencyKeyMiddleware(app, owner=merchant), [(KEY, "pay_1")], merchant="m_1")
    assert seen == [owned_key("m_1", "pay_1")]


@pytest.mark.parametrize(
    "wrong",
    [{"owner": None}, {"owner": "m_1"}, {"owner": merchant, "required_for": ("PO ST",)}, {"owner": merchant, "required_for": 7}],
    ids=without_addresses,
)
def test_what_cannot_work_is_refused_at_once(wrong: Any) -> None:
    make: Callable[..., Callable[..., Awaitable[None]]] = IdempotencyKeyMiddleware
    with pytest.raises(ConfigurationError):
        make(Spy(), **wrong)


async def test_one_method_may_stand_alone() -> None:
    app = IdempotencyKeyMiddleware(Spy(), owner=merchant, required_for="POST")
    assert [(await asked(app, merchant="m_1", method=method)).status for method in ("POST", "P", "PUT")] == [400, 200, 200]
