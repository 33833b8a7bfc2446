"""Every exception this library raises, in one tree.

    FinresilienceError
    ├── ConfigurationError (ValueError)      the set-up is wrong: told at construction, before any money moves
    │   └── DecorationError (TypeError)      this function cannot be guarded this way
    ├── MissingKeyError (TypeError)          an IDEMPOTENT call came without a key: nothing was sent
    ├── RefusedError                         our own refusal: surely not sent, nobody's failure
    │   ├── AttemptOverError
    │   ├── BulkheadFullError
    │   ├── CircuitOpenError
    │   ├── DeadlineExceededError
    │   ├── NoRouteError
    │   ├── RateLimitedError
    │   └── ThreadLimitError
    ├── UnknownOutcomeError                  it may have happened: ask, never charge again
    ├── ExpiredError (TimeoutError)          one attempt outlived its limit; what the provider did is not known
    ├── ResultError                          a returned value stands where an error was asked for
    ├── InvalidMoneyError (ValueError)
    └── CurrencyMismatchError (TypeError)

The stores in `finresilience.durable`, and the proof kit, raise errors of their own under the same root.
Each message says what happened, what is now true of the money, and what to do next. None carries a key, a secret or
an account number.
"""

from __future__ import annotations

from typing import Final, final

_FOREVER: Final = float("inf")


class FinresilienceError(Exception):
    """The root: catch it to catch all that this library raises by itself."""


class ConfigurationError(FinresilienceError, ValueError):
    """An argument cannot work. The message names it and the way out."""


@final
class DecorationError(ConfigurationError, TypeError):
    """This callable cannot be guarded in this way; it was left alone rather than silently unguarded."""


@final
class MissingKeyError(FinresilienceError, TypeError):
    """An `Effect.IDEMPOTENT` call found no idempotency key. Nothing was sent."""


class RefusedError(FinresilienceError):
    """We refused to send the call. Nothing reached the provider, so nothing moved."""

    @property
    def retry_after(self) -> float | None:
        """Seconds until it may be worth asking again, or None if nobody knows."""
        return None


@final
class CircuitOpenError(RefusedError):
    """The circuit is not letting this call through; the provider was not contacted.

    Built from its facts so that the message is only written when somebody reads it: a refusal must stay cheap
    while a provider is down.
    """

    @property
    def circuit(self) -> str:
        """The breaker's name."""
        return str(self.args[0])

    @property
    def state(self) -> str:
        """The state that refused: `open`, `half_open`, `forced_open` or `isolated`."""
        return str(self.args[1])

    @property
    def retry_after(self) -> float | None:
        """Seconds until a probe may pass, or None where a person holds the circuit open."""
        wait = self.args[2]
        return None if wait is None or wait == _FOREVER else max(0.0, float(wait))

    @property
    def generation(self) -> int:
        """Which life of the circuit refused; every change of state begins a new one."""
        return int(self.args[3])

    @property
    def last_failure(self) -> str | None:
        """The class name of the failure that opened it, never its message."""
        name = self.args[4]
        return None if name is None else str(name)

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        cause = f", last failure {self.last_failure}" if self.last_failure else ""
        wait = self.retry_after
        after = "Ask whoever holds it open." if wait is None else f"Try again in {wait:.1f} s, or use another route."
        return f"{self.circuit} was not called: its circuit is {self.state}{cause}.\n  Nothing was sent, so no money moved.\n  {after}"


@final
class DeadlineExceededError(RefusedError):
    """The deadline had passed before the call was made, so it was not made."""

    def __init__(self, name: str, late: float) -> None:
        super().__init__(name, late)

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        name, late = self.args
        return (
            f"{name} was not called: its deadline passed {late:.3f} s ago.\n"
            "  Nothing was sent, so no money moved.\n"
            "  Give the caller a longer deadline, or find what used it up."
        )


@final
class ThreadLimitError(RefusedError):
    """Every thread this timeout may use is still busy, so the call was not made."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(name, limit)

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        name, limit = self.args
        return (
            f"{name} was not called: all {limit} of its threads are still at work, some perhaps on calls given up as unknown.\n"
            "  Nothing was sent, so no money moved.\n"
            "  Give the client inside a socket timeout (remaining()), or raise thread_limit."
        )


@final
class BulkheadFullError(RefusedError):
    """The bulkhead had no place for the call, or none in time; the provider was not contacted.

    Built from its facts, as `CircuitOpenError` is.
    """

    @property
    def bulkhead(self) -> str:
        """The bulkhead's name."""
        return str(self.args[0])

    @property
    def limit(self) -> int:
        """How many calls it lets run at once."""
        return int(self.args[1])

    @property
    def waited(self) -> float:
        """Seconds that the call stood in the queue before it was refused; 0.0 where the queue was full."""
        return float(self.args[2])

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        where = f"no place came free within {self.waited:.3g} s" if self.waited else "there is no room to wait"
        return (
            f"{self.bulkhead} was not called: all places ({self.limit}) are taken and {where}.\n"
            "  Nothing was sent, so no money moved.\n"
            "  Shed the call, or find what makes the calls inside slow before you raise the limit."
        )


@final
class RateLimitedError(RefusedError):
    """The rate limiter had no slot for the call soon enough; the provider was not contacted.

    Built from its facts, as `CircuitOpenError` is.
    """

    @property
    def limiter(self) -> str:
        """The limiter's name."""
        return str(self.args[0])

    @property
    def retry_after(self) -> float | None:
        """Seconds until a slot may be free."""
        return max(0.0, float(self.args[1]))

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        return (
            f"{self.limiter} was not called: the next slot is {self.retry_after:.3g} s away.\n"
            "  Nothing was sent, so no money moved.\n"
            "  Ask again then, or shed the call."
        )


@final
class NoRouteError(RefusedError):
    """No provider may take this call; none was contacted.

    Args:
        name: the failover that speaks.
        reason: why no route was left, in a few words, without call data.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        name, reason = self.args
        return (
            f"{name} was not called: {reason}.\n"
            "  Nothing was sent, so no money moved.\n"
            "  Add a route that may take such a call, or tell the caller that none can."
        )


@final
class UnknownOutcomeError(FinresilienceError):
    """The call may have happened. It is neither a failure nor a success until somebody asks.

    Args:
        name: the pipeline or policy that speaks.
        attempts: how many attempts were sent.
        happened: what was seen last, in words, without the provider's message.
        held_back: why it was not tried again, in one sentence.
        reference: your own reference of the call, if the pipeline was given one; kept out of the message.
        value: the provider's answer, where one came that told nothing.
    """

    def __init__(
        self, name: str, *, attempts: int, happened: str, held_back: str, reference: str | None = None, value: object = None
    ) -> None:
        super().__init__(name)
        self.name = name
        self.attempts = attempts
        self.happened = happened
        self.held_back = held_back
        self.reference = reference
        self.value = value

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        count = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        return (
            f"{self.name} may have happened: {self.happened} ({count}).\n"
            f"  {self.held_back}\n"
            "  Ask the provider by your own reference (Pipeline.inquiry), or leave it to reconciliation. Do not send it again as new."
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Survive a queue or a process pool with every field but the answer, which may not be able to travel."""
        return (_unknown, (self.name, self.attempts, self.happened, self.held_back, self.reference), _notes(self))


def _unknown(name: str, attempts: int, happened: str, held_back: str, reference: str | None) -> UnknownOutcomeError:
    return UnknownOutcomeError(name, attempts=attempts, happened=happened, held_back=held_back, reference=reference)


@final
class AttemptOverError(RefusedError):
    """The attempt was given up before its request was sent, and another may be on its way: this one must not send."""

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        return (
            "this attempt was given up before its request was sent.\n"
            "  Nothing was sent by it, so it moved no money.\n"
            "  Send nothing: let this error end the work that the attempt left behind."
        )


@final
class ExpiredError(FinresilienceError, TimeoutError):
    """An attempt outlived its limit and was given up; the provider may still carry it out.

    Args:
        name: the policy that gave up.
        limit: the seconds it had.
        left_running: True where a thread could not be stopped and may still send the call.
        cut: True where a deadline left it less than the policy would have given.
    """

    def __init__(self, name: str, limit: float, *, left_running: bool = False, cut: bool = False) -> None:
        super().__init__(name)  # alone: two would be read as the errno and the text of an OSError
        self.name = name
        self.limit = limit
        self.left_running = left_running
        self.cut = cut

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        work = " The work itself could not be stopped and is still running." if self.left_running else ""
        return (
            f"{self.name} gave up after {self.limit:.3f} s without an answer.{work}\n"
            "  If the request had left, the provider may have carried it out: the outcome is unknown.\n"
            "  Ask by your own reference before anything is sent again."
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Survive a queue or a process pool with every field."""
        return (_expired, (self.name, self.limit, self.left_running, self.cut), _notes(self))


def _expired(name: str, limit: float, left_running: bool, cut: bool) -> ExpiredError:  # noqa: FBT001 - the pickle protocol passes positions
    return ExpiredError(name, limit, left_running=left_running, cut=cut)


@final
class ResultError(FinresilienceError):
    """A value was returned where an error was asked for: the answer itself said no, or said nothing.

    Args:
        name: the policy that speaks.
        value: the answer, untouched.
    """

    def __init__(self, name: str, value: object) -> None:
        super().__init__(name)
        self.name = name
        self.value = value

    def __str__(self) -> str:
        """Say what happened, what is true of the money, and what to do."""
        return (
            f"{self.name} was answered with a {type(self.value).__name__} that is not a success.\n"
            "  The provider spoke, so what it says of the money holds.\n"
            "  Read `.value`; it is the answer as it came."
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Survive a queue or a process pool with the answer, if that can."""
        return (ResultError, (self.name, self.value), _notes(self))


def _notes(error: BaseException) -> dict[str, object] | None:
    """Return what `add_note` left, for a pickle to carry."""
    notes = getattr(error, "__notes__", None)
    return None if notes is None else {"__notes__": notes}


@final
class InvalidMoneyError(FinresilienceError, ValueError):
    """This is not an amount of that currency; nothing was rounded to make it one."""


@final
class CurrencyMismatchError(FinresilienceError, TypeError):
    """Two currencies met where only one makes sense; nothing was converted."""
