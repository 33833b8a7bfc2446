"""What the providers know of a call, what a pass to another one is paid from, and what a cancelled call leaves behind."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import gc
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any
from weakref import ref

import anyio
import pytest

from finresilience import (
    CallAbandoned,
    ConfigurationError,
    Constant,
    Effect,
    MissingKeyError,
    RatioBudget,
    Retry,
    TokenBudget,
    attempt_budget,
    current_key,
    current_reference,
    idempotency_key,
    remaining,
)
from finresilience.outcome import Ok, Stale
from finresilience.policies.walk import Walk
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import Down, Held, Lost, Provider, both_loops, on, still
from tests.policies.routing import BOTH, ends, failover, judged, one_call, pipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finresilience import Event

# --- key, reference, time ------------------------------------------------------------------------------------------


def seen_by(*fns: Any, **more: Any) -> list[Any]:
    """Return what each of two providers sees, the first of which has nothing to do with the call."""
    seen: list[Any] = []

    def look(*_: Any) -> None:
        seen.append((current_key(), current_reference(), remaining()))
        raise Down

    judged(look, look, **more).outcome("pay_1")
    return seen


def test_the_key_is_asked_once_and_each_provider_has_one_of_its_own() -> None:
    asked: list[str] = []

    def key(payment: str) -> str:
        asked.append(payment)
        return payment

    seen = seen_by(key=key, reference=lambda payment: f"our {payment}", deadline=5.0)
    assert seen == [("pay_1:failover.acme", "our pay_1", 5.0), ("pay_1:failover.globex", "our pay_1", 5.0)]
    assert asked == ["pay_1"]


def test_a_guarded_route_derives_its_key_by_the_name_of_its_pipeline() -> None:
    keys: list[Any] = []

    def charge(*_: Any) -> None:
        keys.append(current_key())
        raise Down

    guards = [pipe(effect=Effect.IDEMPOTENT)(name, still()) for name in ("acme", "globex")]
    failover(*[guard(lambda *_: charge()) for guard in guards], key=lambda payment: payment).outcome("pay_1")
    assert keys == ["pay_1:acme.charge", "pay_1:globex.charge"]


def test_a_key_from_outside_is_derived_from_as_well() -> None:
    with idempotency_key("order_7"):
        assert [key for key, *_ in seen_by()] == ["order_7:failover.acme", "order_7:failover.globex"]


@BOTH
def test_an_idempotent_call_without_a_key_is_sent_to_nobody(form: str) -> None:
    heard: list[Event] = []
    with pytest.raises(MissingKeyError):
        one_call(form, "paid", effect=Effect.IDEMPOTENT, heard=heard)
    assert heard == []


def test_a_route_that_lacks_its_key_is_misuse_and_leaves_no_call_under_way() -> None:
    router = failover(pipe(effect=Effect.IDEMPOTENT)("acme", still())(lambda: "paid"))
    with pytest.raises(MissingKeyError):
        router.outcome()
    health = router.health()["acme"]
    assert (health.under_way, health.calls, router.statistics()["abandoned"]) == (0, 0, 0)


@pytest.mark.parametrize("argument", ["key", "reference", "region", "pin"])
def test_what_its_functions_raise_is_raised_with_a_note_and_nobody_was_asked(argument: str) -> None:
    def broken(*_: Any) -> str:
        raise KeyError(argument)

    provider, told = Provider(), dict[str, Any]({argument: broken})
    router = failover(provider.charge, **told)
    with pytest.raises(KeyError) as caught:
        router.outcome()
    assert caught.value.__notes__ == [f"finresilience: raised by {argument}= of failover; nothing was sent, so no money moved"]
    assert provider.attempts == 0


@pytest.mark.parametrize("argument", ["key", "reference", "region", "pin"])
@pytest.mark.parametrize("answer", [7, b"EU", ["EU"]])
def test_what_its_functions_give_must_be_text(argument: str, answer: Any) -> None:
    told: dict[str, Any] = {argument: lambda: answer}
    router = failover(lambda: 1, **told)
    with pytest.raises(ConfigurationError):
        router.outcome()


# --- what a pass is paid from --------------------------------------------------------------------------------------


def test_a_pass_is_paid_from_the_budget_and_a_refusal_is_not() -> None:
    budget = TokenBudget(4, ratio=0.1)  # a third one would leave no more than half
    router = judged(Provider(*[Down()] * 9).charge, lambda: "paid", budget=budget)
    assert [type(router.outcome()).__name__ for _ in range(3)] == ["Ok", "Ok", "Failed"]
    assert "the retry budget is spent" in router.outcome().error.__notes__[0]
    budget = TokenBudget(4)
    refusing = failover(pipe()("acme", still())(Provider(*[Down()] * 9).charge), lambda: "paid", budget=budget)
    refusing.drain("acme")
    assert refusing.call() == "paid"
    assert budget._left == 4.0


def test_each_call_is_put_into_the_budget_once_though_the_retries_of_the_routes_share_it() -> None:
    for shared, begun in ((True, [1]), (False, [1])):
        budget = RatioBudget(0.5, at_least=0.0)
        retry = Retry(attempts=2, backoff=Constant(0), budget=budget if shared else None, listeners=[])
        router = failover(pipe(retry)("acme", still())(lambda: "paid"), budget=budget)
        router.call()
        assert [calls for calls in budget._calls if calls] == begun


def test_a_success_is_put_into_a_budget_that_lives_on_successes() -> None:
    budget = TokenBudget(10, ratio=0.5)
    router = judged(Provider(Down()).charge, lambda: "paid", budget=budget)
    router.call()
    assert budget._left == 9.5


def test_a_pass_spends_from_the_attempt_budget_of_the_whole_tree() -> None:
    router = judged(Provider(*[Down()] * 2).charge, Provider(*[Down()] * 2).charge, lambda: "paid")
    with attempt_budget(1):
        assert ends(router.routed())[2] == ["failed", "failed"]
    assert router.routed().route == "initech"


def test_a_budget_that_breaks_does_not_take_the_place_of_what_became_of_the_call() -> None:
    class Broken(TokenBudget):  # type: ignore[misc]  # final, but not for a saboteur  # pyright: ignore[reportGeneralTypeIssues]
        def withdraw(self, now: float, /) -> bool:
            raise ZeroDivisionError

    routed = judged(Provider(Down()).charge, lambda: "paid", budget=Broken(4)).routed()
    assert ends(routed) == (type(routed.outcome), "acme", ["failed"])


# --- cancelled -----------------------------------------------------------------------------------------------------


@both_loops
def test_a_cancelled_call_is_told_by_the_provider_that_may_have_it_and_holds_nothing(backend: str) -> None:
    heard: list[Event] = []

    async def story() -> Any:
        held = Held()
        router = judged(held.work, heard=heard, clock=None, reference=lambda payment: payment)
        async with anyio.create_task_group() as group:
            group.start_soon(router.aoutcome, "pay_1")
            await held.begun.wait()
            assert router.health()["acme"].under_way == 1
            group.cancel_scope.cancel()
        return router

    router = on(backend, story)
    health = router.health()["acme"]
    assert (health.under_way, health.calls, router.statistics()["abandoned"]) == (0, 0, 1)
    (abandoned,) = heard
    assert isinstance(abandoned, CallAbandoned)
    assert (abandoned.name, abandoned.reference) == ("failover.acme", "pay_1")


def test_an_interrupt_is_neither_passed_on_nor_counted() -> None:
    second = Provider()
    router = judged(Provider(KeyboardInterrupt()).charge, second.charge)
    with pytest.raises(KeyboardInterrupt):
        router.call()
    assert (second.attempts, router.health()["acme"].calls, router.health()["acme"].under_way) == (0, 0, 0)


# --- the health of the providers -----------------------------------------------------------------------------------


def test_declines_are_healthy_answers_and_our_own_mistakes_are_nobodys() -> None:
    from tests.laws.worlds import No

    router = judged(Provider(*[No()] * 30, *[TypeError()] * 30).charge)
    for _ in range(30):
        router.outcome()
    assert (router.health()["acme"].calls, router.health()["acme"].success_rate) == (30, 1.0)
    for _ in range(30):
        router.outcome()
    assert (router.health()["acme"].calls, router.health()["acme"].success_rate) == (30, 1.0)


@pytest.mark.parametrize(("status", "counted"), [("declined", (1, 0)), ("busy", (1, 1)), ("pending", (0, 0)), ("fined", (1, 1))], ids=str)
def test_an_answer_is_judged_by_the_rules_like_an_error(status: str, counted: tuple[int, int]) -> None:
    from tests.policies.asking import RULES as ANSWERS, Receipt

    router = judged(lambda: Receipt(status), classify=ANSWERS)
    router.outcome()
    health = router.health()["acme"]
    assert (health.calls, health.failures) == counted


@both_loops
def test_a_timeout_of_the_functions_own_is_the_silence_of_its_provider(backend: str) -> None:
    async def story() -> Any:
        async def hides() -> None:
            try:
                with anyio.fail_after(0.5):
                    await anyio.sleep(60.0)
            except TimeoutError as error:
                raise Lost from error

        router = judged(hides, clock=None)
        await router.aoutcome()
        return router.health()["acme"]

    assert on(backend, story).failures == 1


def test_an_error_in_the_place_of_a_cancellation_tells_nothing_of_the_provider() -> None:
    def cleans_up() -> None:
        try:
            raise CancelledError
        except CancelledError:
            raise Lost from None

    router = judged(cleans_up)
    assert type(router.outcome()).__name__ == "Unknown"
    assert router.health()["acme"].calls == 0


@BOTH
def test_a_call_ends_as_its_method_says(form: str) -> None:
    async def paid() -> str:
        return "paid"

    router = failover(lambda: "paid") if form == "sync" else failover(paid, clock=None)
    assert (router.call() if form == "sync" else on(form, router.acall)) == "paid"


def test_doubts_and_failures_drain_a_provider() -> None:
    for error in (Lost, Down):
        router = judged(Provider(*[error() for _ in range(7)]).charge, lambda: "by globex")
        for _ in range(7):
            router.outcome()
        assert router.health()["acme"].state == "drained"
        assert router.routed().tried == (("globex", "ok"),)


@both_loops
def test_a_provider_that_uses_up_the_deadline_of_a_call_has_failed_it(backend: str) -> None:
    async def story() -> Any:
        async def hangs() -> None:
            await anyio.sleep(60.0)

        async def works() -> str:
            return "paid"

        router = judged(hangs, works, deadline=2.0, clock=None)
        for _ in range(7):
            assert type(await router.aoutcome()).__name__ == "Unknown"
        return await router.arouted(), router.health()["acme"]

    routed, health = on(backend, story)
    assert (routed.route, health.failures, health.state) == ("globex", 7, "drained")


@both_loops
def test_one_that_was_cut_short_by_somebody_elses_deadline_is_not_blamed(backend: str) -> None:
    async def story() -> Any:
        from finresilience import deadline

        async def works() -> str:
            await anyio.sleep(1.0)
            return "paid"

        router = judged(works, clock=None, slow_after=2.0)
        for _ in range(30):
            with deadline(0.5):
                assert type(await router.aoutcome()).__name__ == "Unknown"
        return router.health()["acme"]

    health = on(backend, story)
    assert (health.calls, health.state) == (0, "healthy")


def test_an_answer_that_stands_in_for_the_providers_tells_nothing_of_it() -> None:
    from finresilience.policies.walk import _said

    outcome = Ok("cached")
    outcome.fallback = Stale(1.0, "Failed Down")
    assert _said(judged(lambda: 1)._legs["acme"].plan, outcome) == (None, False)


# --- nothing is kept alive -----------------------------------------------------------------------------------------


class Card:
    """A secret that must not outlive its call."""


@pytest.fixture
def without_the_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("without_the_collector")
@pytest.mark.parametrize("errors", [(None,), (Down, Down), (Down, None), (Lost,), (Down, Lost)])
@pytest.mark.parametrize("method", ["call", "outcome", "routed"])
def test_after_a_call_nothing_of_it_is_alive(errors: Any, method: str) -> None:
    def provider(error: Any) -> Any:
        def charge(card: Card) -> str:
            if error is not None:
                raise error
            return "paid"

        return charge

    router = judged(*[provider(error) for error in errors])
    card = Card()
    alive = ref(card)
    try:
        getattr(router, method)(card)
    except Exception:
        assert method == "call"
    del card
    assert alive() is None


# --- are they awake? -----------------------------------------------------------------------------------------------


def an_interrupted_call_keeps_its_ticket(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Walk, "interrupted", lambda *_: None)


def nobody_listens_to_the_ends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("finresilience.policies.walk._said", lambda plan, outcome: (None, False))


@each_kill(
    (an_interrupted_call_keeps_its_ticket, test_an_interrupt_is_neither_passed_on_nor_counted),
    (nobody_listens_to_the_ends, test_doubts_and_failures_drain_a_provider),
)
def test_a_saboteur_is_caught(row: tuple[Any, ...]) -> None:
    kills(*row)
