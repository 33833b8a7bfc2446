"""Failover: who is asked, in which order, past which ends, and what the caller learns of it. The same by thread and by task."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finresilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    Declined,
    Effect,
    Failed,
    Failover,
    Hedge,
    NoRouteError,
    Ok,
    Pipeline,
    RatioBudget,
    Refused,
    Retry,
    Unknown,
    UnknownOutcomeError,
)
from finresilience.errors import DeadlineExceededError, RefusedError
from finresilience.events import CallRefused, CallRouted, OutcomeUnknown
from finresilience.policies.routes import Route
from tests.laws.worlds import RULES, Down, Lost, No, Provider, both_loops, on, still
from tests.policies.routing import BOTH, ends, failover, judged, one_call, pipe

if TYPE_CHECKING:
    from finresilience import Event

# --- past which end ------------------------------------------------------------------------------------------------


@BOTH
def test_an_answer_ends_the_call_at_the_first_provider(form: str) -> None:
    routed, (acme, globex) = one_call(form, "paid", "paid too")
    assert ends(routed) == (Ok, "acme", ["ok"])
    assert routed.unwrap() == "paid"
    assert (acme.attempts, globex.attempts) == (1, 0)


@BOTH
def test_what_surely_was_not_applied_goes_on(form: str) -> None:
    routed, _ = one_call(form, Down(), "paid")
    assert ends(routed) == (Ok, "globex", ["failed", "ok"])


@BOTH
@pytest.mark.parametrize("effect", [Effect.UNSAFE, Effect.IDEMPOTENT, Effect.IDEMPOTENT_BY_NATURE])
def test_an_unknown_outcome_ends_the_call_whatever_its_effect(form: str, effect: Effect) -> None:
    routed, (_, globex) = one_call(form, Lost(), "paid", effect=effect, key=lambda _: "pay_1")
    assert ends(routed) == (Unknown, "acme", ["unknown"])
    assert globex.attempts == 0
    with pytest.raises(UnknownOutcomeError) as caught:
        routed.unwrap()
    assert "an unknown outcome is never sent to another provider" in caught.value.__notes__[0]


@BOTH
def test_a_read_that_nobody_knows_of_goes_on(form: str) -> None:
    routed, _ = one_call(form, Lost(), "balance", effect=Effect.READ)
    assert ends(routed) == (Ok, "globex", ["failed", "ok"])


@BOTH
def test_a_decline_ends_the_call(form: str) -> None:
    error = No("insufficient funds")
    routed, (_, globex) = one_call(form, error, "paid")
    assert ends(routed) == (Declined, "acme", ["declined"])
    assert (routed.outcome.error, globex.attempts) == (error, 0)


@BOTH
def test_a_decline_that_the_callers_rule_calls_soft_goes_on(form: str) -> None:
    routed, _ = one_call(form, No("do not honor"), "paid", soft=lambda declined: "honor" in str(declined.error))
    assert ends(routed) == (Ok, "globex", ["declined", "ok"])
    routed, _ = one_call(form, No("stolen"), "paid", soft=lambda declined: "honor" in str(declined.error))
    assert ends(routed) == (Declined, "acme", ["declined"])


@BOTH
@pytest.mark.parametrize("answer", [ZeroDivisionError, "yes", 1, None])
def test_a_rule_that_fails_or_does_not_say_true_calls_nothing_soft(form: str, answer: Any) -> None:
    def soft(declined: Declined[Any]) -> Any:
        if answer is ZeroDivisionError:
            raise ZeroDivisionError
        return answer

    routed, _ = one_call(form, No(), "paid", soft=soft)
    assert ends(routed) == (Declined, "acme", ["declined"])


# --- how the whole of it ended -------------------------------------------------------------------------------------

SOFT: Any = {"soft": lambda _: True}


@BOTH
@pytest.mark.parametrize(
    ("scripts", "end", "route"),
    [
        ((Down, Down), Failed, "globex"),
        ((Down, RefusedError), Failed, "acme"),
        ((RefusedError, Down), Failed, "globex"),
        ((RefusedError, RefusedError), Refused, None),
        ((No, Down), Declined, "acme"),
        ((No, RefusedError), Declined, "acme"),
        ((No, No), Declined, "globex"),
        ((Down, No), Declined, "globex"),
        ((No, Lost), Unknown, "globex"),
        ((RefusedError, Lost), Unknown, "globex"),
        ((Down, Lost), Unknown, "globex"),
    ],
    ids=lambda value: "-".join(part.__name__ for part in value) if isinstance(value, tuple) else str(value),
)
def test_it_ends_by_the_join_over_the_providers(form: str, scripts: Any, end: type, route: str | None) -> None:
    routed, _ = one_call(form, *scripts, **SOFT)
    assert ends(routed)[:2] == (end, route)
    assert [name for name, _ in routed.tried] == ["acme", "globex"]


@BOTH
def test_the_callers_own_error_is_raised_with_a_note_of_who_was_asked(form: str) -> None:
    first, last = Down("one"), Down("two")
    routed, _ = one_call(form, first, last)
    with pytest.raises(Down) as caught:
        routed.unwrap()
    assert caught.value is last
    assert caught.value.__notes__ == [
        "finresilience: failover: tried acme (failed), globex (failed); nobody else, because no other may take it"
    ]
    routed, _ = one_call(form, last, (last,))
    assert len(last.__notes__) == 1  # one note, however often the same object comes back


# --- guarded and bare routes ---------------------------------------------------------------------------------------


@BOTH
def test_a_guarded_route_is_run_by_its_own_pipeline(form: str) -> None:
    routed, (acme, _) = one_call(form, (Down(), Down(), "paid"), "paid", guard=pipe(Retry(attempts=3, listeners=[])))
    assert ends(routed) == (Ok, "acme", ["ok"])
    assert acme.attempts == 3


def test_no_exception_is_raised_on_the_way() -> None:
    clock = still()
    acme = Pipeline("acme", CircuitBreaker("acme", listeners=[]), classify=RULES, clock=clock, listeners=[])
    charge = acme(Provider(*[Down()] * 30).charge)
    router = failover(charge, lambda *_: "paid", clock=clock)
    for _ in range(25):
        assert router.call("pay_1") == "paid"
    assert acme.statistics()["failed"] >= 7


def test_an_open_circuit_is_passed_by_and_left_alone_until_it_may_answer() -> None:
    clock = still()
    heard: list[Event] = []
    breaker = CircuitBreaker("acme", consecutive_failures=1, open_for=30.0, half_open_calls=1, chance=lambda: 0.0, listeners=[])
    acme = Pipeline("acme", breaker, classify=RULES, clock=clock, listeners=[heard.append])
    provider = Provider(Down(), "paid")
    router = failover(acme(provider.charge), lambda *_: "by globex", clock=clock)
    assert [router.call() for _ in range(3)] == ["by globex"] * 3
    assert router.routed().tried == (("globex", "ok"),)  # it is out of the choice: not even asked
    assert sum(isinstance(event, CallRefused) for event in heard) == 1
    assert router.health()["acme"].failures == 1  # refusals are nobody's failure
    assert router.health()["acme"].paused_for == 30.0
    clock.advance(30.0)
    assert router.call() == "paid"


def test_where_everybody_refuses_the_call_is_refused_with_the_time_to_wait() -> None:
    clock = still()
    breakers = [CircuitBreaker(name, clock=clock, listeners=[]) for name in ("acme", "globex")]
    for breaker, seconds in zip(breakers, (20.0, 10.0), strict=True):
        breaker.trip(seconds=seconds)
    router = failover(*[Pipeline(breaker.name, breaker, clock=clock, listeners=[])(lambda: "paid") for breaker in breakers], clock=clock)
    for _ in range(2):
        outcome = router.outcome()
        assert isinstance(outcome, Refused)
        assert isinstance(outcome.error, CircuitOpenError)
    clock.advance(10.0)
    assert router.routed().route == "globex"


def test_a_full_bulkhead_is_passed_by() -> None:
    bulkhead = Bulkhead(limit=1, queue=0, listeners=[])
    router: Any = None
    router = failover(bulkhead(lambda: router.routed().tried), lambda: "paid")
    assert router.call() == (("acme", "refused"), ("globex", "ok"))  # the call inside found the bulkhead full


def test_a_breaker_that_guards_a_route_alone_judges_it() -> None:
    breaker = CircuitBreaker("acme", classify=RULES, clock=still(), listeners=[])
    for error, end in ((Down(), Ok), (Lost(), Unknown), (No(), Declined)):
        assert isinstance(failover(breaker(Provider(error).charge), lambda: "paid").outcome(), end)
    assert breaker.statistics()["failed"] == 2


def test_the_wrapper_of_a_guarded_function_does_its_own_work_too() -> None:
    from functools import wraps

    charge: Any = Pipeline("acme", classify=RULES, clock=still(), listeners=[])(lambda: 1)

    @wraps(charge)
    def doubled() -> Any:
        return 2 * charge()

    assert failover(doubled).call() == 2


def test_a_guarded_method_keeps_its_self() -> None:
    acme = Pipeline("acme", clock=still(), listeners=[])

    class Client:
        @acme
        def charge(self, amount: int) -> tuple[Client, int]:
            return self, amount

    client = Client()
    assert failover(client.charge).call(5) == (client, 5)


# --- how far it goes -----------------------------------------------------------------------------------------------


@BOTH
def test_it_is_sent_to_at_most_so_many_providers_and_refusals_are_not_counted(form: str) -> None:
    routed, providers = one_call(form, Down(), Down(), "paid", at_most=2)
    assert ends(routed) == (Failed, "globex", ["failed", "failed"])
    assert providers[2].attempts == 0
    assert "as many providers as it may be" in routed.outcome.error.__notes__[0]
    routed, _ = one_call(form, RefusedError(), Down(), "paid", at_most=2)
    assert ends(routed) == (Ok, "initech", ["refused", "failed", "ok"])


def test_past_its_deadline_nobody_else_is_asked() -> None:
    clock = still()

    def slow_refusal() -> str:
        clock.advance(3.0)
        raise Down

    routed = judged(slow_refusal, lambda: "paid", deadline=3.0, clock=clock).routed()
    assert ends(routed) == (Failed, "acme", ["failed"])
    assert "its deadline has passed" in routed.outcome.error.__notes__[0]


def test_a_call_whose_deadline_is_past_is_refused_and_nobody_is_asked() -> None:
    clock = still()
    router = failover(lambda: "paid", clock=clock)
    outer = Pipeline("outer", deadline=1.0, clock=clock, listeners=[], effect=Effect.READ)

    def late() -> Any:
        clock.advance(1.0)
        return router.routed()

    routed = outer.call(late)
    assert ends(routed) == (Refused, None, [])
    assert isinstance(routed.outcome.error, DeadlineExceededError)


@both_loops
def test_the_deadline_is_for_all_providers_together(backend: str) -> None:
    async def slow(*_: Any) -> str:
        await anyio.sleep(2.0)
        raise Down

    async def slower(*_: Any) -> str:
        await anyio.sleep(2.0)
        return "paid"

    async def story() -> tuple[Any, float]:
        router = judged(slow, slower, deadline=3.0, clock=None)
        began = anyio.current_time()
        return await router.arouted(), anyio.current_time() - began

    routed, took = on(backend, story)
    assert ends(routed) == (Unknown, "globex", ["failed", "unknown"])
    assert took == pytest.approx(3.0, abs=0.02)


def test_nobody_who_may_is_a_refusal_that_says_why() -> None:
    router = failover(Route("acme", lambda _: "paid", regions={"EU"}), region=lambda region: region)
    outcome = router.outcome("US")
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, NoRouteError)
    assert "failover was not called: no route may take calls of its region" in str(outcome.error)
    with pytest.raises(NoRouteError):
        router.call("US")


# --- what is told --------------------------------------------------------------------------------------------------


@BOTH
def test_one_event_tells_who_took_the_call(form: str) -> None:
    heard: list[Event] = []
    one_call(form, Down(), "paid", heard=heard, reference=lambda ref: ref)
    assert heard == [CallRouted(name="failover", route="globex", tried=("acme", "globex"), end="ok", reference="pay_1")]


@BOTH
def test_an_unknown_outcome_is_told_by_the_one_who_may_have_taken_it(form: str) -> None:
    heard: list[Event] = []
    one_call(form, Down(), Lost(), heard=heard, reference=lambda ref: ref, name="charges")
    unknown, routed = heard
    assert isinstance(unknown, OutcomeUnknown)
    assert (unknown.name, unknown.reference) == ("charges.globex", "pay_1")
    assert isinstance(routed, CallRouted)
    assert (routed.route, routed.end) == ("globex", "unknown")


def test_a_call_that_nobody_may_take_is_told_as_a_refusal_too() -> None:
    heard: list[Event] = []
    router = failover(lambda: "paid", pin=lambda: "globex", heard=heard)
    router.outcome()
    assert heard == [
        CallRefused(name="failover", reason="NoRouteError", reference=None),
        CallRouted(name="failover", route=None, tried=(), end="refused", reference=None),
    ]


def test_the_statistics_say_how_the_calls_ended() -> None:
    provider = Provider(Down(), Lost(), No(), "paid")
    router = judged(provider.charge, lambda: "paid")
    for _ in range(4):
        router.outcome()
    told = {"ok": 2, "unknown": 1, "declined": 1, "passed_on": 1, "failed": 0, "refused": 0, "abandoned": 0, "listener_failures": 0}
    assert router.statistics() == told


def test_what_it_shows_holds_no_answer() -> None:
    router = failover(lambda: "4111 1111 1111 1111")
    shown = [repr(router.routed()), repr(router), repr(router.routes), repr(router.health())]
    assert shown == [
        "<Routed <Ok str> by acme>",
        "<Failover failover>",
        "(<Route acme>,)",
        "{'acme': <RouteHealth acme healthy: 0 of the last 1 calls failed>}",
    ]


@pytest.mark.parametrize(("first", "later"), [(0.1, 0.1), (0.125, 0.12501), (0.2, 0.21), (0.2, 0.28)])
def test_a_provider_whose_calls_take_all_alike_is_not_slow_because_one_takes_a_little_longer(first: float, later: float) -> None:
    clock, took = still(), [first]
    routes = [Route(name, lambda *_: clock.advance(took[0])) for name in ("acme", "globex")]
    router = Failover(routes, clock=clock, listeners=[])
    for number in range(2_500):
        took[0] = first if number < 1_500 else later
        router.call()
    assert [health.state.value for health in router.health().values()] == ["healthy", "healthy"]


@both_loops
def test_a_call_is_put_into_a_budget_once_whoever_shares_it(backend: str) -> None:
    async def story() -> None:
        budget, provider = RatioBudget(0.5, at_least=0.0), Provider()
        acme = Pipeline("acme", Hedge(1.0, budget=budget), effect=Effect.READ, listeners=[])
        router = Failover([Route("acme", acme(provider.acharge)), Route("globex", provider.acharge)], budget=budget, listeners=[])
        assert await router.acall() == "ok"
        assert sum(budget._calls) == 1

    on(backend, story)
