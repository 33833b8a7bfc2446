"""What does the code inside a call know of it? Its deadline, its idempotency key, its attempt, its reference.

One context variable holds one small object, so that entering a call costs one set and one reset. Values follow tasks
and threads as context variables do; a task started inside a call keeps the call's deadline.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, final

from finresilience._checks import positive_count, seconds_of
from finresilience.clock import Clock, ruling_clock
from finresilience.errors import AttemptOverError, ConfigurationError

if TYPE_CHECKING:
    from contextvars import Token
    from datetime import timedelta
    from types import TracebackType

MAX_KEY: Final = 255  # the longest key that common providers take
_MOST_MS: Final = 1e15  # thirty thousand years: longer is told as that, since a header cannot say infinity


@final
class AttemptBudget:
    """How many more retries the whole tree of nested calls may spend."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left: int = left

    def spend(self) -> bool:
        """Take one retry if any is left. One statement, so that threads sharing a context cannot overspend by much."""
        self.left -= 1
        return self.left >= 0


class CallContext:
    """What is true of the call that is running now. Internal: read it through the functions of this module."""

    # Every call makes one and few look into it: so what nobody set is not there, and reading it gives the default.
    __slots__ = (
        "attempt",
        "base_key",
        "budget",
        "clock",
        "deadline",
        "key",
        "moved",
        "outer",
        "over",
        "probing",
        "reference",
        "sent",
        "stood_in",
        "won",
    )

    attempt: int
    base_key: str | None
    budget: AttemptBudget | None
    key: str | None
    moved: bool  # a call inside, which was no READ, has happened or may have
    outer: CallContext | None
    over: bool  # the attempt was given up before it was sent: whoever still works on it must not send
    probing: object  # the breaker whose half-open probe this attempt is: what it calls inside is part of the probe
    reference: str | None
    sent: bool
    stood_in: bool  # a fallback inside has answered for a call that moves money: what this call returns may be no more than an intent
    won: bool  # a hedged call has its answer: the arms that still run are cancelled, not abandoned

    def __init__(self, deadline: float | None, clock: Clock) -> None:
        self.deadline: float | None = deadline
        self.clock: Clock = clock

    if not TYPE_CHECKING:  # pragma: no branch - a type checker shall go by the declarations above, and see a fact that is misspelt

        def __getattr__(self, name: str) -> Any:
            """Return the default of a fact that was never set."""
            if name in _UNSET:
                return _UNSET[name]
            raise AttributeError(name)

    def inherit(self, outer: CallContext) -> None:
        """Take over what the call outside gives to calls inside: key, reference and budget, not its deadline."""
        self.outer = outer
        self.base_key = outer.base_key
        self.reference = outer.reference
        self.budget = outer.budget


_UNSET: Final[dict[str, Any]] = {
    **dict.fromkeys(("base_key", "budget", "key", "outer", "probing", "reference")),
    "attempt": 1,
    "moved": False,
    "over": False,
    "sent": False,
    "stood_in": False,
    "won": False,
}


@final
class Happenings:
    """Numbers what one call may have to know of another, so that it can tell what came after it began from what is older.

    Each call that gives up has a number, and each mark that was made in a thread without its call's context: nobody can tell whose it is.
    """

    __slots__ = ("mark", "number")

    def __init__(self) -> None:
        self.number: int = 0
        self.mark: int = 0  # the number of the last mark that was made outside of any call

    def marked_outside(self) -> None:
        """Take note that somebody, somewhere, began to send."""
        self.number += 1
        self.mark = self.number


happenings: Final = Happenings()
current: Final[ContextVar[CallContext | None]] = ContextVar("finresilience.current", default=None)


def remaining() -> float | None:
    """Return the seconds left before this call's deadline, never below zero, or None where there is none.

    Made to be handed on: `client.post(url, timeout=remaining())`.
    """
    context = current.get()
    if context is None or context.deadline is None:
        return None
    return max(0.0, context.deadline - context.clock.monotonic())


def current_key() -> str | None:
    """Return the idempotency key for this provider and step: the same on every attempt of one call."""
    context = current.get()
    return None if context is None else context.key


def current_reference() -> str | None:
    """Return your own reference of the running call, as the pipeline was told to find it."""
    context = current.get()
    return None if context is None else context.reference


def current_attempt() -> int:
    """Return which attempt is running: 1 for the first.

    It is 0 outside any call, and in the first attempt of a call that has no key, no reference and no limit.
    """
    context = current.get()
    return 0 if context is None else context.attempt


def mark_sent() -> None:
    """Say that from here on the provider may have seen the request.

    In a pipeline with `marks_sent=True`, whatever fails before this line is known not to have been applied. What a call
    inside has sent, the calls outside have sent too.

    Raises:
        AttemptOverError: if the attempt was given up meanwhile, so that another may be on its way: do not send.
    """
    _stop_if_over()
    context = current.get()
    if context is None:
        happenings.marked_outside()
    _mark(context)
    _stop_if_over()  # once more: whoever gives an attempt up says so and then looks at the mark


def _stop_if_over() -> None:
    context = current.get()
    while context is not None:
        if context.over:
            raise AttemptOverError
        context = context.outer


def _mark(context: CallContext | None) -> None:
    while context is not None:
        context.sent = True
        context = context.outer


def mark_outside(context: CallContext) -> None:
    """Note in the calls outside that a call inside, which marks nothing itself, has begun to send. Internal."""
    _mark(context.outer)


def moved_inside(context: CallContext) -> None:
    """Note in the calls outside that a call inside has happened, or may have: what they raise later tells nothing of it. Internal."""
    outer = context.outer
    while outer is not None:
        outer.moved = True
        outer = outer.outer


def stood_in_inside() -> None:
    """Note in the running calls that a fallback has answered for a call that moves money. Internal."""
    context = current.get()
    while context is not None:
        context.stood_in = True
        context = context.outer


def leave(token: Token[CallContext | None]) -> None:
    """Leave a context that may be gone: a generator or a coroutine can be closed from anywhere. Internal."""
    try:
        current.reset(token)
    except ValueError:  # not `suppress`: this is on the way of every failure
        return


def outbound_headers() -> dict[str, str]:
    """Return the headers that tell the next service what this call knows: its key, its time left, its attempt.

    `Idempotency-Key` as in the IETF draft; the time left is in milliseconds, relative, since clocks differ between machines.
    """
    headers: dict[str, str] = {}
    context = current.get()
    if context is None:
        return headers
    if context.key is not None:
        headers["Idempotency-Key"] = context.key
    left = remaining()
    if left is not None:
        headers["Request-Timeout-Ms"] = str(int(min(left * 1000, _MOST_MS)))
    if context.attempt > 1:
        headers["Previous-Attempts"] = str(context.attempt - 1)
    return headers


def derive_key(base: str, step: str) -> str:
    """Return the key for one step at one provider: readable where it fits, a digest where it does not.

    >>> derive_key("pay_1", "acme.charge")
    'pay_1:acme.charge'
    """
    step = step.replace("%", "%25").replace(":", "%3A")  # or two steps could share a key, and one of them would be taken for a repeat
    return _sendable(f"{base}:{step}")


def _sendable(key: str) -> str:
    """Return the key as it may go out: itself, or a digest where a header or a provider could not take it as it is.

    A line break in it would write a header of its own, and spaces at its ends are stripped on the way: two payments would become one.
    """
    if len(key) <= MAX_KEY and key.isascii() and key.isprintable() and key == key.strip():
        return key
    from hashlib import sha256

    return "fr-" + sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def checked_key(key: object) -> str:
    """Return `key` if it can serve as an idempotency key, or raise `ConfigurationError`, showing nothing of it."""
    if not isinstance(key, str) or not key.strip():
        kind = "an empty one" if isinstance(key, str) else f"a {type(key).__name__}"
        message = f"an idempotency key must be a non-empty str, not {kind}; take it from your own record, such as the payment id"
        raise ConfigurationError(message)
    return key


class _Scope:
    """Hold one change of the context for as long as the block runs. Use each scope once."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token: Token[CallContext | None] | None = None

    def _changed(self, context: CallContext) -> None:
        """Change the context that is about to be entered."""

    def __enter__(self) -> None:
        if self._token is not None:
            message = f"this {type(self).__name__}(...) block is open already: make a new one for each `with`"
            raise ConfigurationError(message)
        outer = current.get()
        if outer is None:
            context = CallContext(None, ruling_clock())
            context.attempt = 0  # no call, no attempt
        else:
            context = CallContext(outer.deadline, outer.clock)
            context.inherit(outer)
            context.key, context.attempt = outer.key, outer.attempt
        self._changed(context)
        self._token = current.set(context)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        if self._token is not None:
            leave(self._token)
            self._token = None


@final
class deadline(_Scope):  # noqa: N801 - reads as a statement: with deadline(2.0):
    """Give everything inside at most `seconds`; an outer, earlier deadline stays in force.

    It stops nothing by itself: policies inside refuse to begin, or give up, when it passes, and `remaining()` hands it on.

    Args:
        seconds: how long, from the moment the block is entered.

    Raises:
        ConfigurationError: if it is not a positive, finite number of seconds.
    """

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float | timedelta) -> None:
        super().__init__()
        self._seconds = seconds_of("deadline", seconds)

    def _changed(self, context: CallContext) -> None:
        mine = context.clock.monotonic() + self._seconds
        context.deadline = mine if context.deadline is None else min(mine, context.deadline)


@final
class idempotency_key(_Scope):  # noqa: N801 - reads as a statement: with idempotency_key("pay_1"):
    """Give the calls inside one key to derive theirs from, each by its own pipeline's name.

    Args:
        key: yours, stable for the intent (a payment id), never random per call.

    Raises:
        ConfigurationError: if it is not a non-empty str.
    """

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = checked_key(key)

    def _changed(self, context: CallContext) -> None:
        context.base_key = self._key
        context.key = _sendable(self._key)


@final
class attempt_budget(_Scope):  # noqa: N801 - reads as a statement: with attempt_budget(3):
    """Let everything inside, however deeply nested, spend at most `retries` retries in all.

    Three layers of three attempts each are 27 calls in the worst case; with a budget of 2 they are 3.

    Args:
        retries: how many, beyond the first attempts.

    Raises:
        ConfigurationError: if it is not a whole number of at least zero.
    """

    __slots__ = ("_retries",)

    def __init__(self, retries: int) -> None:
        super().__init__()
        self._retries = positive_count("retries", retries, least=0)

    def _changed(self, context: CallContext) -> None:
        context.budget = AttemptBudget(self._retries)
