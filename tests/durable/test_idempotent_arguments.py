"""What cannot work is refused where it is written, by name; what cannot be guarded is never left unguarded in silence."""

from __future__ import annotations

import inspect
import logging
import sys
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import ConfigurationError, DecorationError, Pipeline, UnknownOutcomeError
from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.codecs import dataclass_codec, json_codec
from finresilience.durable.idempotent import idempotent, operation_of
from finresilience.durable.idempotent_errors import KeyMismatchError, ReplayedDeclineError
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import KeyState
from tests.durable.idempotents import ASKS, RULES, CardDeclinedError, LostError, Payment, Request, paid
from tests.ids import named

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

CODEC: Any = dataclass_codec(Payment)


def made(store: Any = None, **more: Any) -> Any:
    kept = MemoryIdempotencyStore() if store is None else store
    options: dict[str, Any] = {"codec": CODEC, "deadline": 30.0, **ASKS, **more}
    return idempotent(kept, **options)


async def apaid(req: Request) -> Payment:
    return paid(req)


WRONG: dict[str, Any] = {
    "no key function": {"key": None},
    "a key that is no function": {"key": "pay_1"},
    "an async key": {"key": apaid},
    "no scope function": {"scope": None},
    "a fingerprint that is text": {"fingerprint": "sha256"},
    "a lease of nothing": {"lease": 0.0},
    "a lease for ever": {"lease": float("inf")},
    "a keep within the lease": {"keep": 60.0},
    "a wait below nothing": {"wait": -1.0},
    "a rerun before anybody inherits": {"rerun_within": 10.0},
    "no codec": {"codec": None},
    "half a seal": {"seal": (bytes,)},
    "an async redaction": {"redact": apaid},
    "a mark that is no bool": {"marks_sent": 1},
    "rules that judge nothing": {"classify": "declines"},
    "declines that cannot be kept": {"declines": object()},
    "an owner with a NUL": {"owner": "a\0b"},
    "a name that cannot be printed": {"name": "a\nb"},
}


@pytest.mark.parametrize("more", WRONG.values(), ids=WRONG)
def test_what_cannot_work_is_refused_before_anything_is_guarded(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        made(**more)


@pytest.mark.parametrize("argument", ["key", "scope", "fingerprint"])
def test_what_has_no_harmless_default_has_none(argument: str) -> None:
    with pytest.raises(ConfigurationError, match=f"needs {argument}="):
        idempotent(MemoryIdempotencyStore(), codec=CODEC, **{name: ask for name, ask in ASKS.items() if name != argument})


@pytest.mark.parametrize("store", [None, object(), {}], ids=named)
def test_a_store_is_a_store(store: Any) -> None:
    with pytest.raises(ConfigurationError, match="IdempotencyStore"):
        idempotent(store, codec=CODEC, **ASKS)


@pytest.mark.parametrize("deadline", [None, 60.0, 61.0])
def test_a_plain_function_has_less_time_than_its_lease(deadline: float | None) -> None:
    with pytest.raises(ConfigurationError, match="shorter than the lease"):
        made(deadline=deadline, lease=60.0)(paid)


def test_an_async_function_needs_no_deadline() -> None:
    assert made(AsyncMemoryIdempotencyStore(), deadline=None)(apaid)


def generator(req: Request) -> Generator[Payment]:
    yield paid(req)


async def agenerator(req: Request) -> AsyncGenerator[Payment]:
    yield paid(req)


UNFIT: list[Any] = [generator, agenerator, apaid, classmethod(lambda cls: None), property(paid), Payment, 7]


@pytest.mark.parametrize("fn", UNFIT, ids=named)
def test_a_sync_store_guards_plain_functions_and_nothing_else(fn: Any) -> None:
    with pytest.raises(DecorationError):
        made()(fn)


@pytest.mark.parametrize("fn", [generator, agenerator, paid, Payment], ids=named)
def test_an_async_store_guards_async_functions_and_nothing_else(fn: Any) -> None:
    with pytest.raises(DecorationError):
        made(AsyncMemoryIdempotencyStore())(fn)


def test_a_refusal_leaves_the_decorator_as_it_was() -> None:
    decorator = made()
    with pytest.raises(DecorationError):
        decorator(generator)
    assert decorator(paid)(Request()) == paid(Request())


def test_one_decorator_guards_one_function() -> None:
    decorator = made()
    decorator(paid)
    with pytest.raises(ConfigurationError, match="already"):
        decorator(paid)


def test_the_guarded_function_has_the_name_the_signature_and_the_words_of_its_own() -> None:
    def pay(req: Request, /, *, note: str = "") -> Payment:
        """Pay."""
        return paid(req)

    guarded = made()(pay)
    assert (guarded.__name__, guarded.__doc__, inspect.signature(guarded)) == ("pay", "Pay.", inspect.signature(pay))
    assert inspect.iscoroutinefunction(made(AsyncMemoryIdempotencyStore())(apaid))


def _payment_of(_: object, req: Request) -> str:
    return req.payment_id


def _account_of(_: object, req: Request) -> str:
    return req.account


def _whole(_: object, req: Request) -> Request:
    return req


def test_methods_are_guarded() -> None:
    store = MemoryIdempotencyStore()

    class Shop:
        runs = 0

        @made(store, key=_payment_of, scope=_account_of, fingerprint=_whole)  # type: ignore[untyped-decorator]  # it returns whatever it is told to
        def pay(self, req: Request) -> Payment:
            self.runs += 1
            return paid(req)

    shop = Shop()
    assert shop.pay(Request()) == shop.pay(Request())
    assert shop.runs == 1


def test_a_call_by_name_is_the_same_request_as_one_by_position() -> None:
    runs: list[int] = []

    def pay(req: Request, note: str = "") -> Payment:
        runs.append(1)
        return paid(req)

    def of(req: Request, note: str = "") -> str:
        return req.payment_id

    guarded = made(key=of, scope=of)(pay)
    assert guarded(Request(), "a") == guarded(req=Request(), note="a") == guarded(Request(), note="a")
    assert runs == [1]


def test_a_plain_function_that_returns_something_to_be_awaited_leaves_a_doubt() -> None:
    store = MemoryIdempotencyStore()

    def pay(req: Request) -> Any:
        return apaid(req)

    with pytest.raises(UnknownOutcomeError):
        made(store, listeners=())(pay)(Request())
    [record] = [row.record for _, row in store._rows.all()]
    assert record.state is KeyState.INDETERMINATE


def test_the_operation_is_named_after_its_function_or_as_it_is_told() -> None:
    store = MemoryIdempotencyStore()
    made(store)(paid)(Request())
    made(store, name="acme.charge")(paid)(Request())
    assert sorted(scope for (scope, _), _ in store._rows.all()) == ["acme.charge", "tests.durable.idempotents.paid"]


NAMELESS: list[Callable[[Request], Any]] = [lambda req: None, partial(paid)]


@pytest.mark.parametrize("fn", NAMELESS, ids=["a lambda", "a partial"])
def test_functions_that_cannot_be_told_apart_must_be_named(fn: Any) -> None:
    with pytest.raises(ConfigurationError, match="give @idempotent name="):
        made()(fn)
    assert made(name="pay")(fn)


def test_a_script_and_a_worker_that_imports_it_mean_the_same_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    def pay(req: Request) -> Payment:
        return paid(req)

    pay.__module__, pay.__qualname__ = "__main__", "pay"
    for main, name in (
        (SimpleNamespace(__spec__=None, __file__="/srv/shop.py"), "shop.pay"),
        (SimpleNamespace(__spec__=SimpleNamespace(name="shop.main")), "shop.main.pay"),
    ):
        monkeypatch.setitem(sys.modules, "__main__", main)
        decorator = made()
        decorator(pay)
        assert decorator.name == name


def test_an_operation_is_found_by_its_function_and_by_no_other() -> None:
    decorator = made()
    assert operation_of(decorator(paid)) is decorator
    others: list[Any] = [paid, Pipeline("acme")(paid), 7]
    for fn in others:
        with pytest.raises(ConfigurationError):
            operation_of(fn)


def test_a_record_of_another_operation_is_not_settled_by_this_one() -> None:
    store = MemoryIdempotencyStore()
    made(store, name="refund")(paid)(Request())
    mine, others = made(store), made(store, name="refund")
    mine(paid)
    others(paid)
    record = others.find(Request())
    with pytest.raises(ConfigurationError, match=r"a record of tests\.durable\.idempotents\.paid"):
        mine.resolve(record, paid(Request()), evidence="none")


def test_spans_may_be_timedeltas() -> None:
    terms = made(lease=timedelta(minutes=2), keep=timedelta(days=1), rerun_within=timedelta(hours=23)).core.terms
    assert (terms.lease, terms.keep, terms.rerun_within) == (120.0, 86400.0, 82800.0)


def test_a_nested_operation_that_replays_a_no_is_a_no_of_the_outer_one() -> None:
    store = MemoryIdempotencyStore()

    def declined(req: Request) -> Payment:
        raise CardDeclinedError("51")

    inner = made(store, name="inner", classify=RULES)(declined)
    with pytest.raises(CardDeclinedError):
        inner(Request())
    with pytest.raises(ReplayedDeclineError):
        made(store, name="outer", classify=RULES)(inner)(Request())
    assert store.find("outer", "pay_1:acc_1") is None  # it never reached anybody: the key is free


def test_what_happened_inside_is_not_forgotten_by_the_call_outside() -> None:
    """An operation that replays has happened: the failure of a later step does not give the outer key back."""
    store = MemoryIdempotencyStore()
    inner = made(store, name="inner")(paid)
    inner(Request())

    def body(req: Request) -> Payment:
        inner(req)
        raise KeyMismatchError("later", KeyState.COMPLETED)

    with pytest.raises(UnknownOutcomeError):
        made(store, name="outer", listeners=())(body)(Request())


def test_with_no_set_up_the_log_tells_what_a_person_should_know(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="finresilience")

    def odd(req: Request) -> object:
        return object()

    made(codec=json_codec())(odd)(Request())
    assert "it happened, but its answer cannot be kept (TypeError); the key is indeterminate [fence 1]" in caplog.text
    assert "pay_1" not in caplog.text


def test_an_unknown_end_is_logged_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    def lost(req: Request) -> Payment:
        raise LostError

    with pytest.raises(UnknownOutcomeError):
        made()(lost)(Request())
    assert "outcome unknown" in caplog.text


def test_no_error_shows_a_key_or_a_body() -> None:
    from finresilience.durable.idempotent_errors import KeyIndeterminateError, KeyInProgressError, UnreadableReplayError

    record: Any = MemoryIdempotencyStore()
    record.claim("s3cret", "s3cret", fingerprint="s3cret", lease=1.0)
    found = record.find("s3cret", "s3cret")
    errors = [
        KeyInProgressError("pay", 3.0),
        KeyMismatchError("pay", KeyState.COMPLETED),
        KeyIndeterminateError("pay", found),
        ReplayedDeclineError("pay", "acme.CardDeclined", "51", 402),
        UnreadableReplayError("pay", KeyState.COMPLETED, found),
    ]
    for error in errors:
        assert "s3cret" not in str(error) + repr(error)
        assert "\n  " in str(error)
