"""A limit on sync calls that cannot be stopped: run them in a thread, and say unknown when the thread is left behind."""

from __future__ import annotations

from contextvars import copy_context
from threading import TIMEOUT_MAX, Event as Signal, Lock, Thread
from typing import TYPE_CHECKING, Any, final

from finresilience.context import current_reference
from finresilience.errors import ExpiredError, ThreadLimitError
from finresilience.events import LateResult

if TYPE_CHECKING:
    from finresilience.clock import Clock
    from finresilience.policies.base import Policy
    from finresilience.policies.call import Call


@final
class _Errand:
    """What a thread was sent to do, and what came of it."""

    __slots__ = ("answer", "done", "error", "given_up", "lock")

    def __init__(self) -> None:
        self.done = Signal()
        self.lock = Lock()
        self.given_up = False
        self.answer: Any = None
        self.error: BaseException | None = None

    def give_up(self) -> bool:
        """Stop waiting, unless it is done; return whether it was not. Whoever gives up is told of the result by an event."""
        with self.lock:
            self.given_up = not self.done.is_set()
        return self.given_up


def _waited(clock: Clock, signal: Signal, until: float) -> bool:
    """Return True once `signal` is set, or whether it is when the time is `until`."""
    wait_until = getattr(clock, "wait_until", None)
    if wait_until is not None:  # a clock moved by hand may be moved between any two of our steps, and then stand still for ever
        return bool(wait_until(signal, until))
    left, wait_for = max(0.0, until - clock.monotonic()), getattr(clock, "wait_for", None)
    return signal.wait(min(left, TIMEOUT_MAX)) if wait_for is None else bool(wait_for(signal, left))


@final
class Threads:
    """At most `limit` threads at once, those left behind included. Nobody waits for a thread: without one, the call is refused."""

    __slots__ = ("_busy", "_lock", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self._busy = 0
        self._lock = Lock()

    def forked(self) -> None:
        """Begin anew in a forked child, where none of the threads exists."""
        self._busy = 0
        self._lock = Lock()

    def run(self, owner: Policy, call: Call) -> Any:
        """Return the call's answer, or raise `ExpiredError` at its limit, leaving the thread to finish alone.

        Raises:
            ThreadLimitError: if every thread is busy; the call was not made.
        """
        with self._lock:
            if self._busy >= self.limit:
                raise ThreadLimitError(owner.name, self.limit)
            self._busy += 1
        errand, context = _Errand(), copy_context()
        thread = Thread(target=context.run, args=(self._work, owner, call.fn, call.args, call.kwargs, errand), daemon=True)
        try:
            thread.start()
        except RuntimeError as failure:  # the machine has no thread to give: nothing was sent
            with self._lock:
                self._busy -= 1
            raise ThreadLimitError(owner.name, self.limit) from failure
        seconds = call.limit - call.attempt_started
        try:
            done = _waited(owner._clock, errand.done, call.limit)
        except BaseException:
            errand.give_up()
            raise
        if not done and errand.give_up():
            raise ExpiredError(owner.name, seconds, left_running=True, cut=call.cut)
        if errand.error is None:
            return errand.answer
        error, errand.error = errand.error, None
        try:
            raise error
        finally:
            del error

    def _work(self, owner: Policy, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], errand: _Errand) -> None:
        try:
            errand.answer = fn(*args, **kwargs)
        except BaseException as error:
            errand.error = error
        with self._lock:
            self._busy -= 1
        with errand.lock:
            errand.done.set()
        if errand.given_up:
            owner._publish(
                LateResult(
                    name=owner.name,
                    source="thread",
                    succeeded=errand.error is None,
                    reference=current_reference(),
                    value=errand.answer,
                )
            )
            errand.error = None  # its traceback keeps this frame, which keeps the errand
