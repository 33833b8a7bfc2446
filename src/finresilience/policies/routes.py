"""What a failover is made of and what it hands out: routes, what guards each, and who took a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, final

from finresilience._checks import name_of, refuse
from finresilience.errors import ConfigurationError, DecorationError
from finresilience.policies.base import Policy
from finresilience.policies.decorate import MARK, Kind, bare, inmost, kind_of
from finresilience.policies.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from finresilience.cores.health import RouteState
    from finresilience.cores.routing import Candidate
    from finresilience.outcome import Outcome
    from finresilience.policies.failover import Failover

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)


@final
class Route(Generic[P, R_co]):
    """One provider of a failover: its name, the function that calls it, and which calls it may take.

    Args:
        name: the provider, such as "acme": the same in every failover, so that their health can be shared and calls be pinned to it.
        fn: makes the call; guarded by a Pipeline already, or bare, and then judged by the failover's own rules.
        weight: its share of the traffic where the failover spreads it; 0 for one that only stands by.
        regions: the regions whose calls it may take; None for all. An allow-list that nothing overrides.

    Raises:
        ConfigurationError: if an argument cannot work.
    """

    __slots__ = ("fn", "kind", "name", "regions", "weight")

    def __init__(self, name: str, fn: Callable[P, R_co], /, *, weight: float = 1.0, regions: Iterable[str] | None = None) -> None:
        self.name: str = name_of("name", name)
        self.fn: Callable[P, R_co] = fn
        self.kind: Kind = kind_of(fn)
        if self.kind in {Kind.GENERATOR, Kind.ASYNC_GENERATOR}:
            message = f"the route {name} is {self.kind.value}: what it has yielded already cannot be taken back, so it cannot fail over"
            raise DecorationError(message)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0.0 <= weight < float("inf"):
            refuse("weight", weight, "a finite number of at least 0")
        self.weight: float = float(weight)
        self.regions: frozenset[str] | None = _checked_regions(regions)

    def __repr__(self) -> str:
        """Show the provider."""
        return f"<Route {self.name}>"


def _checked_regions(regions: Iterable[str] | None) -> frozenset[str] | None:
    if regions is None:
        return None
    wanted = 'one or more names, such as {"EU"}; None lets it take calls of every region'
    shaped: object = regions
    if isinstance(shaped, str):  # "EU" would be taken for the regions E and U
        refuse("regions", shaped, wanted)
    try:
        names = frozenset(regions)
    except TypeError:
        refuse("regions", shaped, wanted)
    if not names or not all(isinstance(region, str) and region for region in names):
        refuse("regions", shaped, wanted)
    return names


@final
class Leg:
    """One route of one failover, ready to be run: the plan, the function inside of it, and the candidate it is to the core."""

    __slots__ = ("candidate", "fn", "name", "plan")

    def __init__(self, plan: Plan, fn: Callable[..., Any], candidate: Candidate) -> None:
        self.plan: Plan = plan
        self.fn: Callable[..., Any] = fn
        self.candidate: Candidate = candidate
        self.name: str = candidate.name


def guarded(fn: Callable[..., Any]) -> tuple[Plan, Callable[..., Any]] | None:
    """Return what guards `fn` and the function inside, or None where nothing does that could judge how it ends."""
    mark = getattr(fn, MARK, None)
    plan = mark[0] if mark is not None else None
    if not isinstance(plan, Plan) or plan.lone:  # a lone gate judges nothing
        return None
    inner = bare(fn, plan)
    return None if inner is fn else (plan, inmost(inner, plan, awaits=kind_of(fn) is Kind.ASYNC))


def check_stages(route: str, plan: Plan | None) -> None:
    """Refuse a fallback inside of a route: its answer would hide from the failover that the provider failed."""
    while plan is not None:
        if any(getattr(stage, "role", "") == "Fallback" for stage in plan.stages):
            message = (
                f"the route {route} has a Fallback inside: it would answer before another provider could be asked. "
                "Take it out, and put it round the failover: fallback.call(router.call, ...)"
            )
            raise ConfigurationError(message)
        plan = plan.inside


def checked_routes(routes: Iterable[Route[P, R_co]]) -> tuple[Route[P, R_co], ...]:
    """Return the routes if they can make one failover."""
    try:
        taken = tuple(routes)
    except TypeError:
        taken = ()
    if not taken or not all(isinstance(route, Route) for route in taken):
        refuse("routes", routes, 'one Route or more, such as [Route("acme", acme_charge), Route("globex", globex_charge)]')
    if len({route.name for route in taken}) < len(taken):
        message = "two routes have one name: the name is the provider, and nobody could tell which of them took a payment"
        raise ConfigurationError(message)
    if len({route.kind for route in taken}) > 1:
        message = "some routes are plain functions and some are async: a failover is either sync or async as a whole"
        raise ConfigurationError(message)
    return taken


@final
class Routed(Generic[T_co]):
    """How a call ended, and who took it.

    Attributes:
        outcome: how it ended: the join over the providers that were asked.
        route: the provider whose outcome that is: the one that took the payment, or may have; keep it with the payment, so that
            its capture and its refund can be pinned to it. None where nobody was sent the call.
        tried: every provider that was asked, in order, and the kind of its outcome, such as ("acme", "refused").
    """

    __slots__ = ("outcome", "route", "tried")

    def __init__(self, outcome: Outcome[T_co], route: str | None, tried: tuple[tuple[str, str], ...]) -> None:
        self.outcome: Outcome[T_co] = outcome
        self.route: str | None = route
        self.tried: tuple[tuple[str, str], ...] = tried

    def unwrap(self) -> T_co:
        """Return or raise what the plain call returns or raises."""
        try:
            answer: T_co = self.outcome.unwrap()
            return answer
        finally:
            del self  # the error's traceback keeps this frame, which must not keep the error in turn

    def __repr__(self) -> str:
        """Show the kind, the type and the provider only."""
        return f"<Routed {self.outcome!r} by {self.route}>"


@final
class RouteHealth:
    """What a failover knows of one provider now.

    Attributes:
        route: the provider.
        state: `healthy`, `drained` or `held`.
        calls: how many of its last calls, at most 50 and ten minutes old, the figures are about.
        failures: how many of them failed. Declines are healthy answers.
        p95: the 95th percentile of how long its answers took, in seconds; None without answers.
        usual_p95: the same while all is well, by which slowness is told; None until it is learned.
        under_way: calls of this failover that are not answered yet.
        paused_for: seconds for which it is left out because its guards refuse; 0.0 otherwise.
    """

    __slots__ = ("calls", "failures", "p95", "paused_for", "route", "state", "under_way", "usual_p95")

    def __init__(self, candidate: Candidate, now: float) -> None:
        figures = candidate.health.figures(now)
        self.route: str = candidate.name
        self.state: RouteState = candidate.health.state
        self.calls: int = figures.calls
        self.failures: int = figures.failures
        self.p95: float | None = figures.p95
        self.usual_p95: float | None = candidate.baseline.p95
        self.under_way: int = candidate.under_way
        self.paused_for: float = max(0.0, candidate.paused - now)

    @property
    def success_rate(self) -> float | None:
        """The share of its last calls that did not fail; None without calls."""
        return 1.0 - self.failures / self.calls if self.calls else None

    def __repr__(self) -> str:
        """Show the provider, its state and its figures."""
        return f"<RouteHealth {self.route} {self.state.value}: {self.failures} of the last {self.calls} calls failed>"


@final
class Drain:
    """Keeps the traffic away from a provider until `release`, or to the end of a `with` block. Releasing twice changes nothing."""

    __slots__ = ("_held",)

    def __init__(self, router: Failover[..., Any], route: str) -> None:
        self._held: list[tuple[Failover[..., Any], str]] = [(router, route)]

    def release(self) -> None:
        """Let go. The provider takes traffic again once nobody holds it, if it is well."""
        try:
            router, route = self._held.pop()  # one step: of two threads that let go at once, one does
        except IndexError:
            return
        router.let_go(route, self)

    def __enter__(self) -> Drain:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        self.release()


@final
class Bare(Policy):
    """Speaks for a route that nothing guards: its name makes the route's idempotency keys its own."""

    __slots__ = ()
