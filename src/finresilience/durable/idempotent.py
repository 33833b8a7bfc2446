"""How is a function carried out once for its key, with a provider's call in the middle? By a claim that is leased, told and replayed.

    @idempotent(store, key=lambda req: req.payment_id, scope=lambda req: req.account, fingerprint=fingerprint_of, codec=...)
    async def create_payment(req: PaymentRequest) -> Payment: ...

No database holds a transaction open while a provider answers: the key is claimed in one short transaction and finished in another, and
what happens between the two, a death included, is what this module is about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, overload

from finresilience._checks import refuse
from finresilience.durable.idempotent_core import check_sync
from finresilience.durable.idempotent_operation import Idempotent, Options
from finresilience.durable.idempotent_run import CurrentClaim, current_claim
from finresilience.durable.idempotent_shells import acall, call
from finresilience.durable.records import KeyState
from finresilience.errors import DecorationError
from finresilience.policies.decorate import MARK, Kind, dress, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from typing_extensions import Unpack

    from finresilience.durable.codecs import Codec
    from finresilience.durable.idempotency import AsyncIdempotencyStore, IdempotencyStore
    from finresilience.durable.records import Record

__all__ = ["AsyncIdempotent", "CurrentClaim", "Idempotent", "Options", "SyncIdempotent", "current_claim", "idempotent", "operation_of"]

P = ParamSpec("P")
R = TypeVar("R")


class SyncIdempotent(Idempotent[R]):
    """A plain function and its keys, over an `IdempotencyStore`."""

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Return `fn`, carried out once for its key.

        Raises:
            DecorationError: if it cannot be guarded so; it is never left silently unguarded.
            ConfigurationError: if it was given no deadline shorter than its lease.
        """
        if kind_of(fn) is not Kind.SYNC:
            raise _unfit(fn, "a sync store serves plain functions only: give it an AsyncIdempotencyStore")
        check_sync(getattr(fn, "__qualname__", "it"), self.core.terms)
        self._guarding(fn)

        def once(*args: P.args, **kwargs: P.kwargs) -> R:
            answer: R = call(self, fn, args, kwargs)
            return answer

        return dress(once, fn, self)

    def find(self, *args: Any, **kwargs: Any) -> Record | None:
        """Return what is known of the key of a call with these arguments, or None."""
        found: Record | None = self.store.find(*self._at(args, kwargs))
        return found

    def resolve(self, record: Record, answer: R, *, evidence: str) -> None:
        """Settle an INDETERMINATE record: it happened, and this is the answer that every later call gets."""
        self._settling(record, KeyState.COMPLETED, answer, evidence)()

    def resolve_declined(self, record: Record, *, evidence: str) -> None:
        """Settle an INDETERMINATE record: it did not happen, and never will under this key."""
        self._settling(record, KeyState.FAILED_FINAL, None, evidence)()

    def purge(self, *, limit: int = 1000) -> int:
        """Forget answers of this operation that are older than `keep`; return how many, at most `limit`: ask until it is 0."""
        gone: int = self._purging(limit)()
        return gone


class AsyncIdempotent(Idempotent[R]):
    """An async function and its keys, over an `AsyncIdempotencyStore`."""

    is_async: ClassVar[bool] = True

    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Coroutine[Any, Any, R]]:
        """Return `fn`, carried out once for its key.

        Raises:
            DecorationError: if it cannot be guarded so; it is never left silently unguarded.
        """
        if kind_of(fn) is not Kind.ASYNC:
            raise _unfit(fn, "an async store serves async functions only: give it an IdempotencyStore")
        self._guarding(fn)

        async def once(*args: P.args, **kwargs: P.kwargs) -> R:
            answer: R = await acall(self, fn, args, kwargs)
            return answer

        return dress(once, fn, self)

    async def find(self, *args: Any, **kwargs: Any) -> Record | None:
        """Return what is known of the key of a call with these arguments, or None."""
        found: Record | None = await self.store.find(*self._at(args, kwargs))
        return found

    async def resolve(self, record: Record, answer: R, *, evidence: str) -> None:
        """Settle an INDETERMINATE record: it happened, and this is the answer that every later call gets."""
        await self._settling(record, KeyState.COMPLETED, answer, evidence)()

    async def resolve_declined(self, record: Record, *, evidence: str) -> None:
        """Settle an INDETERMINATE record: it did not happen, and never will under this key."""
        await self._settling(record, KeyState.FAILED_FINAL, None, evidence)()

    async def purge(self, *, limit: int = 1000) -> int:
        """Forget answers of this operation that are older than `keep`; return how many, at most `limit`: ask until it is 0."""
        gone: int = await self._purging(limit)()
        return gone


def _unfit(fn: Any, why: str) -> DecorationError:
    return DecorationError(f"{getattr(fn, '__qualname__', type(fn).__name__)} is {kind_of(fn).value}, and {why}")


@overload
def idempotent(store: AsyncIdempotencyStore[Any], *, codec: Codec[R], **options: Unpack[Options]) -> AsyncIdempotent[R]: ...
@overload
def idempotent(store: IdempotencyStore[Any], *, codec: Codec[R], **options: Unpack[Options]) -> SyncIdempotent[R]: ...
def idempotent(store: Any, *, codec: Codec[Any], **options: Unpack[Options]) -> Any:
    """Return a decorator: one key, one request, one effect, one answer, whoever calls and whoever dies meanwhile.

    The key is claimed first, by one statement. Who gets it runs the body, under a key for the provider that is derived from it, while the
    lease is renewed (async) or outlasts the deadline (sync). Everybody else gets the answer that was stored, or `KeyInProgressError`,
    `KeyMismatchError`, `UnknownOutcomeError`. An answer is stored and replayed as the same typed value, a decline as a decline; what
    surely did not happen gives the key back; whatever may have happened, cancellation included, makes it INDETERMINATE: it is never run
    again, until `resolve` settles it. An heir, whose predecessor died, asks `recover=` first; without it, the key is INDETERMINATE.

    Args:
        store: keeps the keys; an async one for an async function.
        codec: of what the function returns, such as `dataclass_codec(Payment)`.
        **options: by keyword:

            key: from the call's arguments to the client's key. None is a `MissingKeyError`.
            scope: from the arguments to whose key it is: tenant or account. Answers are never shared between two.
            fingerprint: from the arguments to what makes two requests the same one; `fingerprint_of` takes them all.
            lease: seconds after which a dead holder's key has an heir. 60 by default.
            keep: how long an answer is kept before `purge` forgets it, a week by default: a key that is forgotten is new.
            deadline: seconds for the body; required of a plain function, and shorter than its lease.
            wait: seconds to wait for somebody else's answer before `KeyInProgressError`; by default none.
            recover: asks the provider for an heir: of the `Claimed` and the call's arguments, to `Found(value)`, `NotFound()` or
                `StillUnknown()`.
            rerun_within: without `recover`, for how long after the first claim an heir may run the body again: as long as everything in
                it surely recognises its derived keys, such as 23 hours. By default never.
            classify: what the body's errors and answers mean; by default `payments_classifier()`.
            declines: a codec for the errors that are a no, such as `decline_codec(CardDeclined)`; else their name and code are kept.
            provisional: True for an answer that stands in for the provider's own: it is returned, and not kept.
            redact: takes out of an answer what must not be stored.
            seal: `(encrypt, decrypt)`, each of the bytes and of what they belong to (the associated data of an AEAD).
            marks_sent: True where the body calls `mark_sent()` before anything leaves: what ends earlier gives the key back.
            reference: from the arguments to your own reference, for events and errors.
            name: the operation, by default the function's module and name. It is part of every key: renaming makes old keys new.
            owner: who claims, for people who look at the table.
            clock: tells the time.
            listeners: hear every event.

    Raises:
        ConfigurationError: if an argument cannot work; the message says what would.
    """
    claim = getattr(store, "claim", None)
    if not callable(claim) or not callable(getattr(store, "mark_indeterminate", None)):
        refuse("store", store, "an IdempotencyStore, or an AsyncIdempotencyStore for an async function")
    kind: Any = AsyncIdempotent if kind_of(claim) is Kind.ASYNC else SyncIdempotent
    return kind(store, codec=codec, **options)


@overload
def operation_of(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload] - a coroutine is an R too: the first fits
    fn: Callable[..., Coroutine[Any, Any, R]],
) -> AsyncIdempotent[R]: ...
@overload
def operation_of(fn: Callable[..., R]) -> SyncIdempotent[R]: ...
def operation_of(fn: Any) -> Any:
    """Return the operation that guards `fn`, to `find`, `resolve` and `purge` its keys.

    Raises:
        ConfigurationError: if `fn` is not decorated by `idempotent`.
    """
    mark = getattr(fn, MARK, None)
    if mark is None or not isinstance(mark[0], Idempotent):
        refuse("fn", fn, "a function that is decorated by @idempotent, outermost")
    return mark[0]
