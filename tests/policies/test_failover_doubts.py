"""Nobody else gets a payment that may have been taken already, not even when it comes again as another call."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import anyio
import pytest

from finresilience import (
    Bulkhead,
    Constant,
    Declined,
    Effect,
    Failed,
    Failover,
    Ok,
    Pipeline,
    RateLimiter,
    Retry,
    Route,
    TokenBucket,
    Unknown,
    current_key,
)
from finresilience.policies import walk
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import RULES, Down, Lost, No, Provider, both_loops, on, still
from tests.policies.routing import ends, failover, judged, pipe


def keyed(*scripts: Any, effect: Effect = Effect.IDEMPOTENT, **more: Any) -> tuple[Any, list[Provider]]:
    providers = [Provider(*script) for script in scripts]
    guards = [pipe(effect=effect)(name, still()) for name in ("acme", "globex")]
    fns = [guard(provider.charge) for guard, provider in zip(guards, providers, strict=True)]
    return failover(*fns, key=lambda payment: payment, **more), providers


def test_the_same_key_goes_again_to_the_provider_that_may_have_it_whatever_its_health() -> None:
    router, (acme, globex) = keyed((Lost(), "paid"), ())
    assert ends(router.routed("pay_1")) == (Unknown, "acme", ["unknown"])
    router.drain("acme")
    assert ends(router.routed("pay_2")) == (Ok, "globex", ["ok"])
    assert ends(router.routed("pay_1")) == (Ok, "acme", ["ok"])
    assert ends(router.routed("pay_1")) == (Ok, "acme", ["ok"])  # and who has taken it gets it again: only he knows the key
    assert (acme.attempts, globex.attempts) == (3, 1)


@both_loops
@pytest.mark.parametrize("spread", [False, True])
def test_two_calls_of_one_key_at_once_go_to_one_provider(backend: str, spread: bool) -> None:
    """A customer pressed the button twice: acme's bulkhead refused the second call, and globex charged it once more."""

    async def story() -> None:
        taken: list[str] = []

        def bank(name: str, *policies: Any) -> Any:
            async def charge(payment: str) -> str:
                taken.append(name)
                await anyio.sleep(1.0)
                return name

            return Pipeline(name, *policies, effect=Effect.IDEMPOTENT, classify=RULES, listeners=[])(charge)

        chance = iter([0.1, 0.9, 0.1, 0.9]).__next__
        routes = [Route("acme", bank("acme", Bulkhead(1))), Route("globex", bank("globex"))]
        router = Failover(routes, key=lambda payment: payment, spread=spread, chance=chance, listeners=[])
        async with anyio.create_task_group() as clicks:
            for _ in range(2):
                clicks.start_soon(router.aoutcome, "pay_1")
        assert taken == ["acme"]
        assert router._flights == {}
        await router.aoutcome("pay_2")

    on(backend, story)


class Gate(Exception):
    """A gate's no: it is not about the call."""

    status_code = 403


def test_a_gates_no_settles_nothing() -> None:
    """Lost at acme, which had charged it; refused by acme's gate when it came again; and charged by globex the third time."""
    banks = [Provider(TimeoutError(), Gate(), "paid"), Provider()]
    fns = [
        Pipeline(name, effect=Effect.IDEMPOTENT, clock=still(), listeners=[])(bank.charge)
        for name, bank in zip(("acme", "globex"), banks, strict=True)
    ]
    router = failover(*fns, key=lambda payment: payment)
    assert [type(router.outcome("pay_1")) for _ in range(2)] == [Unknown, Declined]
    with router.drain("acme"):  # so that globex is the first choice
        assert isinstance(router.outcome("pay_1"), Ok)
    assert [bank.attempts for bank in banks] == [3, 0]


def test_the_refusal_of_one_tenant_does_not_take_the_provider_from_the_others() -> None:
    clock = still()
    quota = RateLimiter(TokenBucket(1, per=60.0), clock=clock, listeners=[]).per(lambda payment: payment, at_most=9)
    acme, globex = Provider(), Provider()
    guarded = Pipeline("acme", quota, classify=RULES, clock=clock, listeners=[])(acme.charge)
    router = Failover([Route("acme", guarded), Route("globex", globex.charge)], clock=clock, listeners=[])
    for tenant in ("a", "a", "b", "c"):
        router.call(tenant)
    assert (acme.attempts, globex.attempts) == (3, 1)


def test_a_failure_there_settles_nothing_and_goes_nowhere() -> None:
    router, (_, globex) = keyed((Lost(), Down(), Down()), ())
    router.outcome("pay_1")
    for _ in range(2):
        routed = router.routed("pay_1")
        assert ends(routed) == (Failed, "acme", ["failed"])
        assert "an earlier call of its key may have happened at this provider" in routed.outcome.error.__notes__[0]
    assert globex.attempts == 0


@pytest.mark.parametrize(("effect", "settled"), [(Effect.IDEMPOTENT, True), (Effect.UNSAFE, False)])
def test_a_no_settles_it_only_where_the_provider_knows_the_key(effect: Effect, settled: bool) -> None:
    router, (_, globex) = keyed((Lost(), No(), Down()), ("paid",), effect=effect)
    router.outcome("pay_1")
    assert ends(router.routed("pay_1")) == (Declined, "acme", ["declined"])
    router.outcome("pay_1")
    assert globex.attempts == settled


def test_who_knows_what_became_of_it_may_say_so() -> None:
    router, _ = keyed((Lost(), Down()), ("paid",))
    router.outcome("pay_1")
    router.resolved("pay_1")
    router.resolved("pay_2")  # nobody doubted it
    assert ends(router.routed("pay_1")) == (Ok, "globex", ["failed", "ok"])


@pytest.mark.parametrize(("effect", "doubted"), [(Effect.IDEMPOTENT, True), (Effect.UNSAFE, True), (Effect.READ, False)])
def test_a_cancelled_call_may_have_happened_too(effect: Effect, doubted: bool) -> None:
    router, (acme, globex) = keyed((Down(), KeyboardInterrupt()), (KeyboardInterrupt(), "paid"), effect=effect)
    with pytest.raises(KeyboardInterrupt):
        router.outcome("pay_1")
    with pytest.raises(KeyboardInterrupt):
        router.outcome("pay_2")
    assert router.call("pay_1") == ("paid" if doubted else "ok")
    assert (acme.attempts, globex.attempts) == ((2, 2) if doubted else (3, 1))


def test_one_that_was_cancelled_before_it_was_sent_is_in_no_doubt() -> None:
    guard = Pipeline("acme", effect=Effect.IDEMPOTENT, marks_sent=True, classify=RULES, clock=still(), listeners=[])
    router = failover(guard(Provider(KeyboardInterrupt(), Down()).charge), lambda payment: "paid", key=lambda payment: payment)
    with pytest.raises(KeyboardInterrupt):
        router.outcome("pay_1")
    assert router.call("pay_1") == "paid"


def test_a_pin_of_the_callers_own_is_an_order() -> None:
    pins: list[str | None] = [None, "globex"]
    router, _ = keyed((Lost(),), ("paid",), pin=lambda payment: pins.pop(0))
    router.outcome("pay_1")
    assert ends(router.routed("pay_1")) == (Ok, "globex", ["ok"])


def test_what_is_remembered_is_bounded_and_the_oldest_is_forgotten_first() -> None:
    router = judged(lambda payment: Provider(Lost()).charge(), lambda payment: "paid", key=lambda payment: payment)
    for number in range(10_003):
        router._doubt(f"pay_{number}", "acme")
    router._doubt("pay_3", "acme")
    router._doubt("pay_new", "acme")
    assert len(router._doubts) == 10_000
    assert ("pay_2" in router._doubts, "pay_3" in router._doubts, "pay_4" in router._doubts) == (False, True, False)


def test_a_retry_round_a_failover_cannot_make_it_pay_twice() -> None:
    chance, clock = Random(5), still()
    taken: Counter[str] = Counter()
    keys: set[str] = set()

    def bank(payment: str) -> str:
        clock.advance(0.01)
        key = current_key()
        assert key is not None
        luck = chance.random()
        if luck < 0.5 and key not in keys:
            taken[payment] += 1
            keys.add(key)
        if luck < 0.3:
            raise Lost
        if luck < 0.5 or key in keys:
            return "paid"
        raise Down

    guards = [Pipeline(name, classify=RULES, effect=Effect.IDEMPOTENT, clock=clock, listeners=[]) for name in ("acme", "globex")]
    router = failover(*[guard(bank) for guard in guards], clock=clock)
    outer = Pipeline(
        "pay",
        Retry(attempts=5, backoff=Constant(0), listeners=[]),
        effect=Effect.IDEMPOTENT,
        key=lambda payment: payment,
        classify=RULES,
        clock=clock,
        listeners=[],
    )
    for number in range(300):
        outer.outcome(router.call, f"pay_{number}")
    assert max(taken.values()) == 1


def doubts_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Failover, "_doubt", lambda *_: None)


def what_is_under_way_is_not_known(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Failover, "_depart", lambda *_: None)


def any_no_settles_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(walk, "_final", lambda _: True)


def one_keys_refusal_is_everybodys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(walk, "_per_key", lambda _: False)


@each_kill(
    (what_is_under_way_is_not_known, test_two_calls_of_one_key_at_once_go_to_one_provider, "asyncio", False),
    (what_is_under_way_is_not_known, test_two_calls_of_one_key_at_once_go_to_one_provider, "trio", True),
    (any_no_settles_it, test_a_gates_no_settles_nothing),
    (one_keys_refusal_is_everybodys, test_the_refusal_of_one_tenant_does_not_take_the_provider_from_the_others),
    (doubts_are_forgotten, test_a_retry_round_a_failover_cannot_make_it_pay_twice),
    (doubts_are_forgotten, test_the_same_key_goes_again_to_the_provider_that_may_have_it_whatever_its_health),
)
def test_a_saboteur_is_caught(row: tuple[Any, ...]) -> None:
    kills(*row)
