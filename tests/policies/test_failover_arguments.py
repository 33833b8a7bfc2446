"""What a failover cannot be made of, and how it must not be called."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from finresilience import CircuitBreaker, ConfigurationError, DecorationError, Effect, Pipeline, payments_classifier
from finresilience.policies.failover import Failover
from finresilience.policies.routes import Route
from tests.laws.worlds import both_loops, on, still
from tests.policies.routing import failover


def paid(*_: Any) -> str:
    return "paid"


async def apaid(*_: Any) -> str:
    return "paid"


ONE: Any = [Route("acme", paid)]

# --- routes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("routes", [[], (), None, Route("acme", paid), [paid], ["acme"], [("acme", paid)]])
def test_routes_are_several_routes(routes: Any) -> None:
    with pytest.raises(ConfigurationError, match="one Route or more"):
        Failover(routes)


def test_two_routes_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two routes have one name"):
        Failover([Route("acme", paid), Route("acme", apaid)])


def test_plain_and_async_routes_do_not_mix() -> None:
    with pytest.raises(ConfigurationError, match="either sync or async"):
        Failover([Route("acme", paid), Route("globex", apaid)])


def test_two_providers_under_one_pipeline_are_refused() -> None:
    charge = Pipeline("charge", listeners=[])
    with pytest.raises(ConfigurationError, match="share idempotency keys"):
        Failover([Route("acme", charge(paid)), Route("globex", charge(lambda *_: "paid"))])


def test_a_fallback_inside_of_a_route_is_refused() -> None:
    from finresilience import Fallback

    guarded = Pipeline("acme", Fallback(value="cached"), effect=Effect.READ, listeners=[])(paid)
    with pytest.raises(ConfigurationError, match="put it round the failover"):
        Failover([Route("acme", guarded)])


def test_regions_without_a_way_to_tell_where_a_call_belongs_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="give region= a function"):
        Failover([Route("acme", paid, regions={"EU"})])


@pytest.mark.parametrize("regions", ["EU", [], [""], [7], 7, {None}])
def test_regions_are_names_and_not_one_text(regions: Any) -> None:
    with pytest.raises(ConfigurationError, match="regions="):
        Route("acme", paid, regions=regions)


@pytest.mark.parametrize("weight", [-1, inf, nan, True, "1", None])
def test_a_weight_is_a_finite_number_of_at_least_nothing(weight: Any) -> None:
    with pytest.raises(ConfigurationError, match="weight="):
        Route("acme", paid, weight=weight)


@pytest.mark.parametrize("name", ["", " ", 7, None, "a\nb"])
def test_a_name_is_printable(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="name="):
        Route(name, paid)


def test_what_cannot_be_called_or_steps_is_no_route() -> None:
    def steps() -> Any:
        yield 1

    async def asteps() -> Any:
        yield 1

    for fn in (steps, asteps, "acme", object, None):
        with pytest.raises(DecorationError):
            Route("acme", fn)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the mistake


# --- the failover --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("effect", ["read", 1]),
        ("classify", [paid, {}]),
        ("soft", [True, "51"]),
        ("key", ["pay_1"]),
        ("reference", ["pay_1"]),
        ("region", ["EU"]),
        ("pin", ["acme"]),
        ("deadline", [0, -1, inf, nan, True, "1"]),
        ("at_most", [0, -1, 1.5, True]),
        ("budget", [5, object()]),
        ("spread", [1, "yes", None]),
        ("slow_after", [0, -1, inf, nan]),
        ("failure_rate", [0, 0.91, 1.0, -1, nan, True]),
        ("trickle", [0, 1.1, nan, True]),
        ("watch_every", [0, -1, inf, nan]),
        ("health_of", [CircuitBreaker("acme"), "charges"]),
        ("name", ["", 7]),
        ("clock", [7]),
        ("chance", [0.5]),
        ("listeners", [7, [7]]),
    ],
)
def test_an_argument_that_cannot_work_is_refused_by_name(argument: str, values: list[Any]) -> None:
    for value in values:
        told: dict[str, Any] = {argument: value}
        with pytest.raises(ConfigurationError, match=argument):
            Failover(ONE, **told)


@pytest.mark.parametrize("told", [{"effect": Effect.READ}, {"classify": payments_classifier()}])
def test_rules_that_nobody_would_follow_are_refused(told: dict[str, Any]) -> None:
    guarded = Pipeline("acme", listeners=[])(paid)
    with pytest.raises(ConfigurationError, match="leave out"):
        Failover([Route("acme", guarded)], **told)
    Failover([Route("acme", guarded), Route("globex", paid)], **told)  # the second has none of its own


# --- calls ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["call", "outcome", "routed"])
def test_async_routes_must_be_awaited(method: str) -> None:
    with pytest.raises(DecorationError, match=f"await `a{method}` instead"):
        getattr(failover(apaid), method)()


@both_loops
@pytest.mark.parametrize("method", ["acall", "aoutcome", "arouted"])
def test_plain_routes_must_not_block_a_loop(method: str, backend: str) -> None:
    with pytest.raises(DecorationError, match=f"use `{method[1:]}`"):
        on(backend, getattr(failover(paid), method))


def test_a_shared_failover_is_no_block() -> None:
    with pytest.raises(ConfigurationError), failover(paid):
        pass


def test_the_arguments_are_those_of_the_routes() -> None:
    router = failover(lambda payment, *, currency="EUR": (payment, currency))
    assert router.call("pay_1", currency="USD") == ("pay_1", "USD")


def test_a_clock_that_was_given_rules_everything() -> None:
    clock = still()
    router = failover(paid, clock=clock)
    assert (router._board._clock, router._legs["acme"].plan.owner._clock) == (clock, clock)
