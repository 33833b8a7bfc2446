"""Which words pass between a fake provider and whoever calls it? Orders, receipts, and the errors of its client."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NoReturn, final

from finresilience._checks import name_of, refuse
from finresilience.classify.classifier import ErrorClassifier
from finresilience.context import MAX_KEY
from finresilience.money import Money
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

AUTHORIZE: Final = "authorize"
CAPTURE: Final = "capture"
CHARGE: Final = "charge"
INQUIRY: Final = "inquiry"
REFUND: Final = "refund"
VOID: Final = "void"
OPERATIONS: Final = frozenset({AUTHORIZE, CAPTURE, CHARGE, REFUND, VOID})

SUCCEEDED: Final = "succeeded"
DECLINED: Final = "declined"
PENDING: Final = "pending"

_NEEDS_AMOUNT: Final = frozenset({AUTHORIZE, CHARGE})


@final
@dataclass(frozen=True, slots=True)
class Order:
    """One request: what shall be done, to which payment, with how much.

    Args:
        operation: "charge", "authorize", "capture", "void" or "refund".
        reference: the caller's own name of the payment.
        amount: how much; None for all that is there to capture or to refund, and for a void.
        key: the idempotency key, if one came.
        tag: what the test marks this call with, for faults that strike a tag.

    Raises:
        ConfigurationError: if it makes no sense.
    """

    operation: str
    reference: str
    amount: Money | None = None
    key: str | None = field(default=None, repr=False)
    tag: str = ""

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS:
            refuse("operation", self.operation, f"one of {', '.join(sorted(OPERATIONS))}")
        name_of("reference", self.reference)
        amount: object = self.amount
        if amount is None and self.operation in _NEEDS_AMOUNT:
            refuse("amount", amount, f'Money, such as Money("12.50", "EUR"), with every {self.operation}')
        if amount is not None and (not isinstance(amount, Money) or not amount.is_positive):
            refuse("amount", amount, "a positive amount of Money")
        key: object = self.key
        if key is not None and (not isinstance(key, str) or not 0 < len(key) <= MAX_KEY):
            refuse("key", key, f"None or a str of 1 to {MAX_KEY} characters")

    @property
    def body(self) -> tuple[str, str, Money | None]:
        """What must be the same when the same key comes again."""
        return (self.operation, self.reference, self.amount)


@final
@dataclass(frozen=True, slots=True)
class Receipt:
    """What the provider says of one operation.

    Attributes:
        status: as in HTTP: 201 carried out, 200 found by an inquiry, 402 declined, 404, 409 key in use, 422 key of another request...
        result: "succeeded", "declined", "pending", or the name of the problem.
        operation: what was asked.
        reference: the caller's own name of the payment.
        id: the provider's name of this operation; empty where nothing came to be.
        amount: how much, where it is known.
        code: why not, of a decline.
        replayed: True where this is the stored answer to an earlier request with the same key.
        retry_after: seconds after which to ask again, where the provider says so.
    """

    status: int
    result: str
    operation: str
    reference: str
    id: str = ""
    amount: Money | None = None
    code: str = ""
    replayed: bool = False
    retry_after: float | None = None


@final
class How(StrEnum):
    """How a request ends for whoever sent it."""

    ANSWER = "answer"
    PAGE = "page"  # 502, and HTML
    SILENCE = "silence"
    RESET = "reset"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the core tells a face to do: wait, then answer, stay silent, or tear the connection down.

    Attributes:
        how: which of the four.
        receipt: what to say, of an ANSWER.
        wait: seconds until then.
        endless: of a SILENCE that outlasts the patience of the caller's client too.
    """

    how: How
    receipt: Receipt | None = None
    wait: float = 0.0
    endless: bool = False


class ProviderError(Exception):
    """The root of what the in-process client of a fake provider raises.

    Attributes:
        sent: whether the request had left: False means that surely nothing happened.
        receipt: what the provider said, if it said anything.
        verdict: what it means for the money.
    """

    classification: Classification = UNKNOWN

    def __init__(self, message: str, *, sent: bool = True, receipt: Receipt | None = None) -> None:
        super().__init__(message)
        self.sent: bool = sent
        self.receipt: Receipt | None = receipt

    @property
    def status(self) -> int | None:
        """The status of the answer, if there was one."""
        return None if self.receipt is None else self.receipt.status

    @property
    def verdict(self) -> Verdict:
        """What it means for the money: what was not sent did not happen."""
        wait = None if self.receipt is None else self.receipt.retry_after
        return Verdict(self.classification if self.sent else RETRYABLE, retry_after=wait)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive a queue or a process pool."""
        return (_again, (type(self), self.args, self.sent, self.receipt))


def _again(kind: Callable[..., ProviderError], args: tuple[str, ...], sent: bool, receipt: Receipt | None) -> ProviderError:  # noqa: FBT001 - of a pickle
    return kind(*args, sent=sent, receipt=receipt)


@final
class ProviderTimeoutError(ProviderError, TimeoutError):
    """The caller's client gave up waiting: nobody knows, unless it was not sent."""


@final
class ProviderResetError(ProviderError, ConnectionResetError):
    """The connection was torn down after the request was sent: nobody knows."""


@final
class ProviderGarbledError(ProviderError):
    """Somebody in between answered 502 with a page: nobody knows."""


@final
class ProviderBusyError(ProviderError):
    """429 or 503 with Retry-After: not carried out, ask again later."""

    classification = RETRYABLE


@final
class ProviderDeclinedError(ProviderError):
    """The provider said no. `code` says why."""

    classification = NON_RETRYABLE

    @property
    def code(self) -> str:
        """The provider's decline code."""
        return "" if self.receipt is None else self.receipt.code


@final
class ProviderKeyInUseError(ProviderError):
    """409: an earlier request with this key is still at work, or nobody knows. Ask, or come again with the same key."""


@final
class ProviderRefusedError(ProviderError):
    """400, 404 or 422: the request cannot be carried out as it is; 422 is a key that came with another request before."""

    classification = NON_RETRYABLE


_RAISED: Final[dict[int, type[ProviderError]]] = {
    402: ProviderDeclinedError,
    409: ProviderKeyInUseError,
    429: ProviderBusyError,
    503: ProviderBusyError,
}


def raised(reply: Reply, name: str, operation: str) -> NoReturn:
    """Raise what the client of a provider raises for this reply, which is no success."""
    if reply.how is How.RESET:
        raise ProviderResetError(f"{name}.{operation}: the connection was reset after the request was sent; ask what became of it")
    if reply.how is How.PAGE:
        raise ProviderGarbledError(f"{name}.{operation}: 502 with a page of HTML; ask what became of it")
    receipt = reply.receipt
    if receipt is None:
        raise ProviderTimeoutError(f"{name}.{operation}: no answer in time; ask what became of it")
    code = f" ({receipt.code})" if receipt.code else ""
    kind = _RAISED.get(receipt.status, ProviderRefusedError)
    raise kind(f"{name}.{operation}: {receipt.status} {receipt.result}{code}", receipt=receipt)


def _of_error(error: object) -> Verdict | None:
    return error.verdict if isinstance(error, ProviderError) else None


def _of_receipt(receipt: object) -> Classification | None:
    """A receipt that an inquiry found: a decline is a no, and "pending" tells nothing yet."""
    result = receipt.result if isinstance(receipt, Receipt) else SUCCEEDED
    return {DECLINED: NON_RETRYABLE, PENDING: UNKNOWN}.get(result)


def classifier() -> ErrorClassifier:
    """Return what the errors and receipts of a fake provider tell about the money."""
    return ErrorClassifier({ProviderError: _of_error, Receipt: _of_receipt})
