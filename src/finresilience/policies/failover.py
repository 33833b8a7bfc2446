"""Failover: give a call to a provider that is well, and to another one only if the first has surely not carried it out."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final

from finresilience._checks import positive_count, refuse, seconds_of
from finresilience.context import current, leave
from finresilience.cores.routing import Candidate, Routing
from finresilience.errors import ConfigurationError, DecorationError
from finresilience.events import RouteChanged, log_event
from finresilience.outcome import Effect
from finresilience.policies.base import Policy, chance
from finresilience.policies.board import Board, health_settings
from finresilience.policies.decorate import Kind
from finresilience.policies.guarding import checked_rules
from finresilience.policies.plan import Plan
from finresilience.policies.retry import deposit, withdraw
from finresilience.policies.routes import Bare, Drain, Leg, P, R_co, Route, Routed, RouteHealth, check_stages, checked_routes, guarded
from finresilience.policies.shells import arun, run, settled
from finresilience.policies.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import timedelta

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.cores.budget import Budget
    from finresilience.cores.health import Health, Turn
    from finresilience.events import Listener
    from finresilience.outcome import Declined, Outcome

T = TypeVar("T")

_DOUBTS: Final = 10_000


@final
class Failover(Policy, Generic[P, R_co]):
    """Call one of several providers, and move away from one that fails or gets slow before it fails.

    A call goes on to another provider only where it is surely not applied: refused, failed before it was sent, or a READ. Never past
    an unknown outcome, whatever its effect: another provider does not know the first one's key. So a payment cannot be taken twice.

    Each provider is watched: failures and slowness add up to evidence, and a provider with enough of it is drained, but for a trickle
    of calls by which its recovery is seen. If all are ill, the least ill one serves.

    Args:
        routes: the providers, in the order of preference; all plain functions, or all async.
        name: shown in errors, events and logs; a bare route's idempotency keys are derived from it and the route's name.
        effect: of the calls by bare routes: what happens if one is carried out twice; UNSAFE by default.
        classify: what errors and answers of bare routes mean. By default `payments_classifier()`.
        soft: returns True for a decline that another provider may turn into a yes; without it no decline is passed on.
        key: from the call's arguments to its idempotency key. Asked once a call; each provider gets one of its own, derived from it.
        reference: from the call's arguments to your own reference of it.
        region: from the call's arguments to where it belongs; only routes whose `regions` allow that are asked, come what may.
        pin: from the call's arguments to the provider that it must go to (captures, refunds, inquiries), or None.
        deadline: seconds for the whole call, over all providers.
        at_most: to how many providers a call may be sent; refusals are not counted. All of them by default.
        budget: what a pass to another provider is paid from, where something was sent; may be that of the routes' Retry.
        spread: share the traffic by the routes' weights; otherwise the first that is well takes it all.
        slow_after: the seconds that one call in twenty may take; learned for each route, while it is well, if not given.
        failure_rate: the share of failures at which a provider must be drained; 0.25 by default.
        trickle: the share of the traffic that watches a drained provider once it answers well; 0.01 by default.
        watch_every: seconds between two calls that watch it before, with enough traffic; 2 by default.
        health_of: another failover whose view of the same providers is shared, such as the one that charges.
        clock: tells the time.
        chance: numbers in [0, 1).
        listeners: hear every event.

    Raises:
        ConfigurationError: if an argument cannot work; the message names it and the way out.
    """

    __slots__ = (
        "_asks",
        "_at_most",
        "_board",
        "_budget",
        "_deposits",
        "_doubts",
        "_flights",
        "_is_async",
        "_legs",
        "_passed",
        "_plan",
        "_routing",
        "_soft",
        "routes",
    )  # fmt: skip - one line a subject would be a page

    def __init__(
        self,
        routes: Iterable[Route[P, R_co]],
        *,
        name: str = "failover",
        effect: Effect | None = None,
        classify: ErrorClassifier | None = None,
        soft: Callable[[Declined[Any]], bool] | None = None,
        key: Callable[..., str | None] | None = None,
        reference: Callable[..., str | None] | None = None,
        region: Callable[..., str | None] | None = None,
        pin: Callable[..., str | None] | None = None,
        deadline: float | timedelta | None = None,
        at_most: int | None = None,
        budget: Budget | None = None,
        spread: bool = False,
        slow_after: float | timedelta | None = None,
        failure_rate: float | None = None,
        trickle: float | None = None,
        watch_every: float | timedelta | None = None,
        health_of: Failover[..., Any] | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = chance,
        listeners: Iterable[Listener] = (log_event,),
    ) -> None:
        self.routes: tuple[Route[P, R_co], ...] = checked_routes(routes)
        if clock is None and isinstance(health_of, Failover) and health_of._own_clock:
            clock = health_of._clock
        super().__init__(name, clock=clock, chance=chance, listeners=listeners)
        if effect is not None and not isinstance(effect, Effect):
            refuse("effect", effect, "an Effect, such as Effect.IDEMPOTENT")
        for argument, function in {"soft": soft, "key": key, "reference": reference, "region": region, "pin": pin}.items():
            if function is not None and not callable(function):
                refuse(argument, function, "a function of the call's arguments")
        if not isinstance(spread, bool):
            refuse("spread", spread, "True or False")
        if budget is not None and not callable(getattr(budget, "withdraw", None)):
            refuse("budget", budget, "a TokenBudget or a RatioBudget")
        if region is None and any(route.regions is not None for route in self.routes):
            message = "some routes have regions=, but nobody says where a call belongs: give region= a function of the call's arguments"
            raise ConfigurationError(message)
        self._asks: dict[str, Callable[..., object] | None] = {"region": region, "pin": pin}
        self._soft = soft
        self._budget = budget
        self._at_most = len(self.routes) if at_most is None else positive_count("at_most", at_most)
        self._passed = 0
        self._flights: dict[str, tuple[str, int]] = {}  # keys of calls under way: where, and how many
        self._doubts: dict[str, str] = {}  # keys of calls that have happened or may have, and the provider of each
        self._is_async = self.routes[0].kind is Kind.ASYNC
        rules = checked_rules(classify)
        limit = inf if deadline is None else seconds_of("deadline", deadline)
        self._plan = Plan(self, classifier=rules, effect=effect or Effect.UNSAFE, key_of=key, reference_of=reference, deadline=limit)
        self._board = self._shared(health_of, (failure_rate, trickle, watch_every))
        slow = None if slow_after is None else seconds_of("slow_after", slow_after)
        self._legs: dict[str, Leg] = {route.name: self._leg(route, slow) for route in self.routes}
        self._routing = Routing([leg.candidate for leg in self._legs.values()], spread=spread)
        self._check_legs(told=effect is not None or classify is not None)
        payers = [payer for leg in self._legs.values() for payer in (leg.plan.retry, leg.plan.hedge) if payer is not None]
        self._deposits = budget is not None and all(payer.budget is not budget for payer in payers)

    def _shared(self, other: object, told: tuple[object, object, object]) -> Board:
        """Return the board of the other failover, or one of our own."""
        if other is None:
            return Board(self.name, health_settings(*told), clock=self._clock if self._own_clock else None)
        if not isinstance(other, Failover):
            refuse("health_of", other, "a Failover")
        if told != (None, None, None):
            message = "health_of= brings the rules by which the providers are judged: leave out failure_rate, trickle and watch_every"
            raise ConfigurationError(message)
        if other._clock is not self._clock:
            message = "health_of= needs the clock of the other failover: leave out clock="
            raise ConfigurationError(message)
        board: Board = other._board
        return board

    def _leg(self, route: Route[P, R_co], slow_after: float | None) -> Leg:
        candidate = Candidate(self._board.of(route.name), weight=route.weight, regions=route.regions, slow_after=slow_after)
        known = guarded(route.fn)
        check_stages(route.name, getattr(route.fn, "__finresilience__", (None,))[0])
        if known is not None:
            return Leg(*known, candidate)
        owner = Bare(f"{self.name}.{route.name}"[:200], clock=self._clock if self._own_clock else None, listeners=self._publish.listeners)
        return Leg(Plan(owner, classifier=self._plan.classifier, effect=self._plan.effect), route.fn, candidate)

    def _check_legs(self, *, told: bool) -> None:
        """Refuse rules that nobody would follow, and two providers under one pipeline name."""
        plans = [leg.plan for leg in self._legs.values()]
        if told and not any(isinstance(plan.owner, Bare) for plan in plans):
            message = "every route is guarded by a pipeline of its own, whose effect and rules hold: leave out effect= and classify="
            raise ConfigurationError(message)
        names = [plan.owner.name for plan in plans]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            message = (
                f"two routes are guarded under the name {twice!r}: their providers would share idempotency keys and circuits. "
                "Give each provider a pipeline of its own"
            )
            raise ConfigurationError(message)

    # --- calls -----------------------------------------------------------------------------------------------------

    def call(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call a provider and return its answer, or raise as the laws of outcomes say.

        Raises:
            DecorationError: if the routes are async: await `acall` instead.
        """
        answer: R_co = settled(self._routed("call", args, kwargs).outcome)
        return answer

    async def acall(self: Failover[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await a provider and return its answer, or raise as the laws of outcomes say.

        Raises:
            DecorationError: if the routes are plain functions, which would block the event loop.
        """
        answer: T = settled((await self._arouted("acall", args, kwargs)).outcome)
        return answer

    def outcome(self, *args: P.args, **kwargs: P.kwargs) -> Outcome[R_co]:
        """Call a provider and return how it ended. Raises nothing but what is no `Exception`, and misuse."""
        return self._routed("outcome", args, kwargs).outcome

    async def aoutcome(self: Failover[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Outcome[T]:
        """Await a provider and return how it ended. Raises nothing but what is no `Exception`, and misuse."""
        return (await self._arouted("aoutcome", args, kwargs)).outcome

    def routed(self, *args: P.args, **kwargs: P.kwargs) -> Routed[R_co]:
        """Call a provider and return how it ended and who took it: keep the name with the payment, to pin what follows to it."""
        return self._routed("routed", args, kwargs)

    async def arouted(self: Failover[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Routed[T]:
        """Await a provider and return how it ended and who took it: keep the name with the payment, to pin what follows to it."""
        return await self._arouted("arouted", args, kwargs)

    def _routed(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Routed[Any]:
        if self._is_async:
            raise DecorationError(f"`{method}` was called, but the routes of {self.name} are async: await `a{method}` instead")
        walk = Walk(self, args, kwargs)
        while (leg := walk.next()) is not None:
            token = current.set(walk.context)
            try:
                walk.ended(run(leg.plan, leg.fn, args, kwargs))
            except BaseException as error:
                walk.interrupted(error)
                raise
            finally:
                leave(token)
        return walk.routed()

    async def _arouted(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Routed[Any]:
        if not self._is_async:
            way = method.removeprefix("a")
            raise DecorationError(f"`{method}` would block the event loop: the routes of {self.name} are plain functions, so use `{way}`")
        walk = Walk(self, args, kwargs)
        while (leg := walk.next()) is not None:
            token = current.set(walk.context)
            try:
                walk.ended(await arun(leg.plan, leg.fn, args, kwargs))
            except BaseException as error:
                walk.interrupted(error)
                raise
            finally:
                leave(token)
        return walk.routed()

    # --- used by the walk ------------------------------------------------------------------------------------------

    def _named(self, argument: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        function = self._asks[argument]
        if function is None:
            return None
        name = self._plan._asked(argument, function, args, kwargs)
        if name is not None and not isinstance(name, str):
            message = f"{argument}= must give a str or None, not a {type(name).__name__}; nothing was sent, so no money moved"
            raise ConfigurationError(message)
        return name

    def _is_soft(self, outcome: Declined[Any]) -> bool:
        try:
            return self._soft is not None and self._soft(outcome) is True
        except Exception:  # an answer in hand is never thrown away because it could not be judged
            return False

    def _withdraw(self, now: float) -> bool:
        try:
            return withdraw(self._budget, now)
        except Exception:  # a budget of the caller's own: it must not take the place of what became of the call
            return False

    def _deposit(self, now: float, *, succeeded: bool) -> None:
        """Note the call in the budget, unless the routes' own retries or hedges do."""
        if self._deposits:
            with suppress(Exception):  # as above
                deposit(self._budget, now, succeeded=succeeded)

    def _tell(self, news: list[Turn]) -> None:
        for turn in news:
            told = RouteChanged(name=self.name, route=turn.route, before=turn.before.value, after=turn.after.value, reason=turn.reason)
            self._publish(told)

    def _hear(self, clock: Clock) -> None:
        was: Callable[[], float] | None = getattr(self, "_now", None)
        super()._hear(clock)
        routing: Routing | None = getattr(self, "_routing", None)
        if was is not None and routing is not None:
            with self._board._lock:
                routing.shift(self._now() - was())

    def forked(self) -> None:
        """Begin anew in a forked child: the calls of the parent's other threads do not exist here."""
        routing: Routing | None = getattr(self, "_routing", None)  # not there if its making failed
        if routing is not None:
            routing.forget_calls()
            self._flights.clear()

    # --- doubts ----------------------------------------------------------------------------------------------------

    def _doubtful(self, key: str | None) -> str | None:
        """Return the provider at which a call of this key is under way, has happened or may have: nobody else may have it."""
        if key is None:
            return None
        flight = self._flights.get(key)
        return self._doubts.get(key) if flight is None else flight[0]

    def _depart(self, key: str | None, route: str) -> None:
        """Note that a call of this key is on its way to a provider. Under the lock."""
        if key is not None:
            self._flights[key] = (route, self._flights.get(key, (route, 0))[1] + 1)

    def _arrive(self, key: str | None) -> None:
        """Note that a call of this key has ended at its provider. Under the lock."""
        flight = None if key is None else self._flights.pop(key, None)
        if key is not None and flight is not None and flight[1] > 1:
            self._flights[key] = (flight[0], flight[1] - 1)

    def _doubt(self, key: str | None, route: str) -> None:
        """Note a call that has happened or may have. Under the lock."""
        if key is None:
            return
        self._doubts.pop(key, None)
        if len(self._doubts) >= _DOUBTS:
            del self._doubts[next(iter(self._doubts))]
        self._doubts[key] = route

    def resolved(self, key: str) -> None:
        """Say that what became of the call of this key is known, so that it may be given to any provider again.

        A failover remembers in memory, of the last 10,000 keys, where the call has happened or may have, and gives a repetition to that
        provider only, who knows its key. A no there under the same key settles it; so does this.

        Args:
            key: as `key` gave it, not as a provider saw it.
        """
        with self._board._lock:
            self._doubts.pop(key, None)

    # --- an operator decides ---------------------------------------------------------------------------------------

    def drain(self, route: str) -> Drain:
        """Send nothing to this provider but what is pinned to it, until the returned handle, or the last of several, is released."""
        handle = Drain(self, self._known(route))
        self._act(route, lambda health, now: health.hold(handle, now))
        return handle

    def restore(self, route: str) -> None:
        """Send traffic to this provider again, from now on, whoever holds it and however ill it looked; its pace is learned anew."""
        self._act(self._known(route), lambda health, now: health.restore(now))

    def let_go(self, route: str, handle: Drain) -> None:
        """End one hold. Internal: handles call it, once each."""
        self._act(route, lambda health, now: health.let_go(handle, now))

    def _act(self, route: str, deed: Callable[[Health, float], None]) -> None:
        with self._board._lock:
            deed(self._legs[route].candidate.health, self._now())
            news = self._board.read()
        self._tell(news)

    def _known(self, route: object) -> str:
        if not isinstance(route, str) or route not in self._legs:
            refuse("route", route, f"one of {', '.join(self._legs)}")
        return route

    # --- what it knows ---------------------------------------------------------------------------------------------

    def health(self) -> dict[str, RouteHealth]:
        """Return how each provider stands, by name."""
        with self._board._lock:
            now = self._now()
            return {name: RouteHealth(leg.candidate, now) for name, leg in self._legs.items()}

    def statistics(self) -> dict[str, int]:
        """Return how the calls ended, how often one was passed on after it was sent, and how often a listener failed."""
        ends = {name: count for name, count in self._plan.ends.as_dict().items() if name not in {"resolved", "retried"}}
        return {**ends, "passed_on": self._passed, "listener_failures": self._publish.failures}
