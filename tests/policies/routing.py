"""Small worlds for failovers: providers that play their scripts, and one call by them."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience import Pipeline
from finresilience.policies.failover import Failover
from finresilience.policies.routes import Route, Routed
from tests.laws.worlds import RULES, Provider, on, still

if TYPE_CHECKING:
    from finresilience import Event

NAMES = ("acme", "globex", "initech")
BOTH = pytest.mark.parametrize("form", ["sync", "asyncio", "trio"])


def failover(*fns: Any, heard: list[Event] | None = None, **more: Any) -> Any:
    """Return a failover of these functions, or routes, on a clock that stands still."""
    routes = [fn if isinstance(fn, Route) else Route(name, fn) for name, fn in zip(NAMES, fns, strict=False)]
    listeners = [] if heard is None else [heard.append]
    rules: dict[str, Any] = {"clock": still()} | more
    return Failover(routes, listeners=listeners, **rules)


def judged(*fns: Any, **more: Any) -> Any:
    """Return a failover of bare functions, which it judges by the rules of the worlds."""
    rules: dict[str, Any] = {"classify": RULES} | more
    return failover(*fns, **rules)


def pipe(*policies: Any, **more: Any) -> Any:
    """Return what guards a route: a pipeline of its own."""
    return lambda name, clock: Pipeline(f"{name}.charge", *policies, classify=RULES, clock=clock, listeners=[], **more)


def one_call(form: str, *scripts: Any, guard: Any = None, **more: Any) -> tuple[Any, list[Provider]]:
    """Make one call by providers that play their scripts, and return how it was routed."""
    providers = [Provider(*script) if isinstance(script, tuple) else Provider(script) for script in scripts]
    clock = still() if form == "sync" else None
    fns: list[Any] = [provider.charge if form == "sync" else provider.acharge for provider in providers]
    if guard is not None:
        fns = [guard(name, clock)(fn) for name, fn in zip(NAMES, fns, strict=False)]
    router = (judged if guard is None else failover)(*fns, clock=clock, **more)
    routed = router.routed("pay_1") if form == "sync" else on(form, router.arouted, "pay_1")
    return routed, providers


def ends(routed: Routed[Any]) -> tuple[type, str | None, list[str]]:
    return type(routed.outcome), routed.route, [end for _, end in routed.tried]
