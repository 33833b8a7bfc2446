"""Who holds the key of an HTTP request, for how long, and how is it given back? What the middleware and FastAPI's dependency share."""

from __future__ import annotations

from contextlib import suppress
from functools import cache, partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, cast, final

from finresilience._checks import refuse, seconds_of
from finresilience.clock import obey, ruling_clock
from finresilience.crash_points import crash_point, declare
from finresilience.durable.errors import StaleTokenError
from finresilience.durable.records import InProgress
from finresilience.errors import ConfigurationError, ExpiredError, MissingKeyError, RefusedError, UnknownOutcomeError
from finresilience.integrations.headers import HeaderError
from finresilience.integrations.idempotency_answers import End, HttpAnswer
from finresilience.outcome import RETRYABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from anyio import CapacityLimiter, Event as _Event
    from anyio.lowlevel import RunVar

    from finresilience.classify.classifier import ErrorClassifier
    from finresilience.clock import Clock
    from finresilience.context import CallContext
    from finresilience.durable.idempotency import AsyncIdempotencyStore, IdempotencyStore
    from finresilience.durable.records import Claim, ClaimToken

CLAIMED: Final = declare("http.claimed", "the key is claimed, and the application has not begun")
ANSWERED: Final = declare("http.answered", "the application has answered, and neither the store nor the caller knows it")
SETTLED: Final = declare("http.settled", "the store has the answer, and the caller does not")

THREADS: Final = 40  # how many calls to a sync store wait at once
LONGEST_REASON: Final = 200


@final
class KeyStoreDownError(RefusedError):
    """The store of idempotency keys did not answer, so the request was not begun."""

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        return (
            "the store of idempotency keys did not answer.\n"
            "  Nothing was begun, so no money moved.\n"
            "  Send the request again later, with the same key; see why the store does not answer."
        )


@final
class Keys:
    """A store, sync or async, that is asked within bounds: no answer is lost because the store is slow or gone. Internal.

    Args:
        store: an IdempotencyStore or an AsyncIdempotencyStore.
        lease, renew_for, store_timeout, clock: as the middleware's.
    """

    def __init__(
        self,
        store: IdempotencyStore[Any] | AsyncIdempotencyStore[Any],
        *,
        lease: float | timedelta,
        renew_for: float | timedelta,
        store_timeout: float | timedelta,
        clock: Clock | None,
    ) -> None:
        if not callable(getattr(store, "claim", None)) or not callable(getattr(store, "mark_indeterminate", None)):
            refuse("store", store, "an IdempotencyStore or an AsyncIdempotencyStore")
        self.store: Any = store
        self.is_async: bool = iscoroutinefunction(self.store.claim)
        self.lease: float = seconds_of("lease", lease)
        self._renew_for = seconds_of("renew_for", renew_for)
        self._timeout = seconds_of("store_timeout", store_timeout)
        if self._timeout * 3 > self.lease:
            message = f"lease={lease} is shorter than three times store_timeout={store_timeout}: it could run out while it is being renewed"
            raise ConfigurationError(message)
        self._own_clock = clock
        self.clock: Clock = ruling_clock() if clock is None else clock
        self.counts: dict[str, int] = dict.fromkeys(_COUNTED, 0)
        obey(self)

    def told_by(self, clock: Clock, /) -> None:
        """Follow the ruling clock. Internal: clocks call it."""
        if self._own_clock is None:
            self.clock = clock

    async def do(self, call: Callable[[], Any]) -> Any:
        """Call a method of the store; a sync one in a thread."""
        if self.is_async:
            return await call()
        from anyio import to_thread

        return await to_thread.run_sync(call, limiter=_limiter())

    def asking(self, space: str, key: str, fingerprint: str, **more: Any) -> Callable[[], Any]:
        """Return the call of the store that asks for the key."""
        return partial(self.store.claim, space, key, fingerprint=fingerprint, lease=self.lease, owner="http", **more)

    async def claim(self, space: str, key: str, fingerprint: str) -> Claim:
        """Return what the store says of the key; what it says is not lost to a cancellation, which shows at the next turn.

        Raises:
            KeyStoreDownError: if it says nothing, or not in time.
        """
        from anyio import move_on_after

        with move_on_after(self._timeout, shield=True):
            try:
                return cast("Claim", await self.do(self.asking(space, key, fingerprint)))
            except (RefusedError, ConfigurationError):
                raise
            except Exception as error:
                self.failed("claim", error)
                raise KeyStoreDownError from error
        self.failed("claim", None)
        raise KeyStoreDownError

    async def claim_in_time(self, space: str, key: str, fingerprint: str, *, wait: float, step: float) -> Claim:
        """Return what the store says of the key once it is not in progress, or `wait` seconds have passed."""
        until = self.clock.monotonic() + wait
        while True:
            claim = await self.claim(space, key, fingerprint)
            left = until - self.clock.monotonic()
            if not isinstance(claim, InProgress) or left <= 0:
                return claim
            await self.clock.sleep(min(step, left))

    async def renewing(self, hold: Hold) -> None:
        """Renew the lease each third of it, until the work is done, the lease is lost, or it has been renewed for long enough."""
        from anyio import move_on_after

        now = self.clock.monotonic()
        until, end = now + self.lease - self._timeout, now + self._renew_for  # a claim counts from when it was asked for
        while hold.token is not None:
            pause = min(self.lease / 3, max(0.0, until - self.clock.monotonic()))
            with move_on_after(pause):  # on the loop's own time: a test's clock that jumps must not make it spin
                await hold.done.wait()
            if hold.done.is_set():
                return
            asked = self.clock.monotonic()
            if asked < end and await self._renewed(hold, hold.token):
                until = asked + self.lease
            if self.clock.monotonic() >= until:
                hold.lost()
                return

    async def _renewed(self, hold: Hold, token: ClaimToken) -> bool:
        from anyio import move_on_after

        with move_on_after(self._timeout):
            try:
                await self.do(partial(self.store.renew, token, lease=self.lease))
            except StaleTokenError:
                if not hold.done.is_set():
                    hold.lost()
                return False
            except Exception as error:  # it may be back before the lease runs out
                self.failed("renew", error)
                return False
            return True
        return False

    async def settle(self, token: ClaimToken, end: End, answer: HttpAnswer | None = None, *, reason: str = "") -> None:
        """Tell the store how it ended: short, whoever is cancelled, and without an error of its own; the lease tells the rest."""
        from anyio import move_on_after

        crash_point(ANSWERED)
        self.counts[end] += 1
        with move_on_after(self._timeout, shield=True) as bound:
            try:
                await self.do(self.deed(token, end, answer, reason=reason))
            except Exception as error:
                self.failed(end, error)
        if bound.cancelled_caught:
            self.failed(end, None)
        crash_point(SETTLED)

    def deed(self, token: ClaimToken, end: End, answer: HttpAnswer | None = None, *, reason: str = "", **more: Any) -> Callable[[], Any]:
        """Return the call of the store that tells it how it ended."""
        if end is End.RELEASE:
            return partial(self.store.release, token, **more)
        if end is End.INDETERMINATE or answer is None:
            return partial(self.store.mark_indeterminate, token, reason=reason[:LONGEST_REASON], **more)
        finish = self.store.complete if end is End.COMPLETE else self.store.fail
        return partial(finish, token, answer.stored(most=self.store.max_response), status=str(answer.status), **more)

    def failed(self, deed: str, error: Exception | None) -> None:
        """Count and log that the store was not told; never what it was to be told."""
        import logging

        self.counts["failures"] += 1
        why = "no answer in time" if error is None else type(error).__name__
        logging.getLogger("finresilience").warning("idempotency store: %s failed (%s); what follows, the lease tells", deed, why)


_COUNTED: Final = (*("executed", "replayed", "in_use", "reused", "unknown", "not_kept", "failures"), *map(str, End))


@final
class Hold:
    """A claim while the work runs under it. Internal.

    Args:
        keys: whose it is.
        context: of the work: when the lease is lost, guarded calls inside of it refuse to send.
        token: of the claim; None once its end was told.
    """

    __slots__ = ("context", "done", "keys", "token")

    def __init__(self, keys: Keys, context: CallContext, token: ClaimToken) -> None:
        from anyio import Event

        self.keys: Keys = keys
        self.context: CallContext = context
        self.token: ClaimToken | None = token
        self.done: _Event = Event()

    def lost(self) -> None:
        """Let nothing that is guarded send any more: somebody else may be at it."""
        self.context.over = True

    def end(self) -> ClaimToken | None:
        """Return the token whose end is to be told, the first time: it is not renewed any more."""
        token, self.token = self.token, None
        self.done.set()
        return token

    async def settle(self, end: End, answer: HttpAnswer | None = None, *, reason: str = "") -> None:
        """Tell the store how it ended, once; later ends are not told."""
        token = self.end()
        if token is not None:
            await self.keys.settle(token, end, answer, reason=reason)


async def while_renewed(work: Callable[[Callable[[Hold], object]], Awaitable[None]]) -> None:
    """Do the work; each claim that it hands over is renewed until its end. An error of the work comes as itself, in no group."""
    from anyio import create_task_group, get_cancelled_exc_class

    holds, errors = list[Hold](), list[BaseException]()
    async with create_task_group() as group:

        def renewed(hold: Hold) -> None:
            holds.append(hold)
            group.start_soon(hold.keys.renewing, hold)

        try:
            await work(renewed)
        except (get_cancelled_exc_class(), GeneratorExit):
            raise
        except BaseException as error:
            errors.append(error)
        finally:
            for hold in holds:
                hold.done.set()
    if errors:
        raise errors.pop()


def is_parting(error: BaseException) -> bool:
    """Return whether the worker was told to stop, by a cancellation or a signal: it has a moment left, in which to say how far it came."""
    from anyio import get_cancelled_exc_class

    return isinstance(error, (get_cancelled_exc_class(), KeyboardInterrupt, SystemExit))


def end_of_error(error: BaseException, context: CallContext, classify: ErrorClassifier | None, *, told: bool) -> End:
    """Return how work ended that raised; in doubt, nobody knows. `told`: the caller hears of it by a problem. Internal."""
    if isinstance(error, UnknownOutcomeError | ExpiredError) or not isinstance(error, Exception):
        return End.INDETERMINATE
    if isinstance(error, RefusedError | MissingKeyError | HeaderError):
        return End.INDETERMINATE if context.sent else End.RELEASE
    if told:  # no error of ours, and yet a problem: a decline
        return End.FAIL
    if classify is None or context.moved or classify.error(error).classification is not RETRYABLE:
        return End.INDETERMINATE
    return End.RELEASE


@cache
def _limits() -> RunVar[CapacityLimiter]:
    from anyio.lowlevel import RunVar

    return RunVar("finresilience.idempotency.threads")


def _limiter() -> CapacityLimiter:
    """Return this event loop's limit for sync stores: the threads of others may hang, and an answer must not wait for them."""
    with suppress(LookupError):
        return _limits().get()
    from anyio import CapacityLimiter

    limiter = CapacityLimiter(THREADS)
    _limits().set(limiter)
    return limiter
