"""What the laws of idempotency stores are written with: one scope, one key, one request, unless a law says otherwise."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from finresilience.durable.errors import StaleTokenError
from finresilience.durable.records import Claim, Claimed, ClaimToken, KeyState, Record
from finresilience.testing.contracts._base import Contract, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

T = TypeVar("T")

LEASE: Final = 60.0


def is_a(kind: type[T], answer: object, when: str = "") -> T:
    """Return the answer if it is of this kind, or say what it is instead."""
    assert isinstance(answer, kind), f"expected {kind.__name__}{' ' + when if when else ''}, and was told {type(answer).__name__}"
    return answer


@contextmanager
def loud(error: type[Exception], otherwise: str) -> Generator[None]:
    """Demand that the block is refused with this error."""
    try:
        yield
    except error:
        return
    except Exception as other:
        raise AssertionError(f"expected {error.__name__}, and {type(other).__name__} was raised: {other}") from other
    raise AssertionError(otherwise)


class Keys(Contract):
    """Short words for what most laws do."""

    probe: ClassVar[str] = "claim"
    scope: Final = "tenant"
    awkward: Final = bytes(range(256)) + "ä\u0308\u202e".encode()

    async def claim(self, store: Any, **more: Any) -> Claim:
        """Claim the one key of this law."""
        told: dict[str, Any] = {"scope": self.scope, "key": "pay_1", "fingerprint": "request", "lease": LEASE, **more}
        scope, key = told.pop("scope"), told.pop("key")
        answer: Claim = await ask(store.claim(scope, key, **told))
        return answer

    async def claimed(self, store: Any, **more: Any) -> Claimed:
        """Claim it, and win."""
        return is_a(Claimed, await self.claim(store, **more))

    async def find(self, store: Any, scope: str = "tenant", key: str = "pay_1", **more: Any) -> Record | None:
        """Look the key up."""
        record: Record | None = await ask(store.find(scope, key, **more))
        return record

    async def bring_to(self, store: Any, state: KeyState, **more: Any) -> ClaimToken:
        """Claim a key and bring it into a state."""
        token = (await self.claimed(store, **more)).token
        if state is KeyState.COMPLETED:
            await ask(store.complete(token, b"completed"))
        elif state is KeyState.FAILED_FINAL:
            await ask(store.fail(token, b"failed"))
        elif state is KeyState.INDETERMINATE:
            await ask(store.mark_indeterminate(token, reason="lost"))
        return token

    async def refuses_work(self, store: Any, token: ClaimToken, where: str) -> None:
        """Demand that a holder with nothing left to do is refused."""
        deeds: dict[str, Callable[[], Any]] = {
            "renew": lambda: store.renew(token, lease=LEASE),
            "advance": lambda: store.advance(token, "late", data=b"late"),
            "release": lambda: store.release(token),
            "mark_indeterminate": lambda: store.mark_indeterminate(token, reason="late"),
        }
        for name, deed in deeds.items():
            with loud(StaleTokenError, f"{name} was taken {where}"):
                await ask(deed())

    async def refuses_all(self, store: Any, token: ClaimToken, where: str) -> None:
        """Demand that a holder whose claim is somebody else's is refused, whatever it wants."""
        await self.refuses_work(store, token, where)
        for name, deed in (("complete", store.complete), ("fail", store.fail)):
            with loud(StaleTokenError, f"{name} with a stale token was taken {where}"):
                await ask(deed(token, b"late"))
