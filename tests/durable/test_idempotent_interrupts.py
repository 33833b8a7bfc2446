"""An exit, or a store that fails, at the most awkward moment: between the effect and its record, between the asking and the running."""

from __future__ import annotations

from typing import Any

import pytest

from finresilience import ConfigurationError, NotFound, UnknownOutcomeError
from finresilience.durable.amemory_idempotency import AsyncMemoryIdempotencyStore
from finresilience.durable.idempotent import current_claim
from finresilience.durable.idempotent_errors import UnreadableReplayError
from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.durable.records import KeyState
from tests.durable.idempotents import FLAVOURS, LEASE, CardDeclinedError, Payment, Request, Till, paid


@pytest.fixture(params=FLAVOURS)
def till(request: pytest.FixtureRequest) -> Till:
    return Till(request.param)


def over(till: Till, store: type[MemoryIdempotencyStore]) -> None:
    till.store = store(clock=till.clock)
    till.shared = till.store if till.flavour == "sync" else AsyncMemoryIdempotencyStore(till.store)


def test_an_exit_while_the_store_is_told_does_not_lose_the_answer() -> None:
    class Interrupted(MemoryIdempotencyStore):
        told = 0

        def complete(self, *args: Any, **more: Any) -> None:
            self.told += 1
            if self.told == 1:
                raise KeyboardInterrupt
            super().complete(*args, **more)

    till = Till("sync")
    over(till, Interrupted)
    pay = till.operation(paid)
    with pytest.raises(KeyboardInterrupt):
        pay(Request())
    assert till.states() == [KeyState.COMPLETED]
    assert pay(Request()) == paid(Request())
    assert len(till.runs) == 1


def test_who_loses_the_key_while_he_asks_does_not_run() -> None:
    till = Till("sync")

    def recover(claimed: Any, req: Request) -> Any:
        till.advance(LEASE + 1)
        till.claimed_by_another()
        return NotFound()

    till.left_behind()
    with pytest.raises(UnknownOutcomeError):
        till.operation(paid, recover=recover)(Request())
    assert till.runs == []


def test_an_heir_who_cannot_look_how_old_the_key_is_does_not_run(till: Till) -> None:
    class Blind(MemoryIdempotencyStore):
        def find(self, *args: Any, **more: Any) -> Any:
            raise OSError

    over(till, Blind)
    till.left_behind()
    with pytest.raises(UnknownOutcomeError) as caught:
        till.operation(paid, rerun_within=LEASE * 9)(Request())
    assert isinstance(caught.value.__cause__, OSError)
    assert (till.runs, till.states()) == ([], [KeyState.IN_PROGRESS])


def test_an_async_answer_of_an_inquiry_that_nobody_awaits_is_no_answer() -> None:
    async def recover(claimed: Any, req: Request) -> Any:
        return NotFound()

    till = Till("sync")
    till.left_behind()
    with pytest.raises(UnknownOutcomeError):
        till.operation(paid, recover=recover)(Request())
    assert till.runs == []


@pytest.mark.parametrize("argument", ["key", "scope", "fingerprint"])
def test_a_question_that_raises_says_that_nothing_was_sent(till: Till, argument: str) -> None:
    def broken(req: Request) -> str:
        raise LookupError

    with pytest.raises(LookupError) as caught:
        till.operation(paid, **{argument: broken})(Request())
    assert f"raised by {argument}=" in caught.value.__notes__[0]
    assert "nothing was sent" in caught.value.__notes__[0]


async def test_the_wrong_kind_of_advance_says_which_is_right() -> None:
    till = Till("sync")
    seen: list[Any] = []

    def body(req: Request) -> Payment:
        seen.append(current_claim())
        return paid(req)

    till.operation(body)(Request())
    with pytest.raises(ConfigurationError, match=r"call current_claim\(\)\.advance"):
        await seen[0].aadvance("sent")
    seen[0]._run.op.__class__ = till.kinds["async"]
    with pytest.raises(ConfigurationError, match="aadvance"):
        seen[0].advance("sent")


class OnlyTexts:
    """A codec of declines that forgets to make an error of what it reads."""

    def encode(self, value: Exception, /) -> bytes:
        return str(value).encode()

    def decode(self, data: bytes, /) -> str:
        return data.decode()


def test_a_decline_that_cannot_be_read_says_so(till: Till) -> None:
    def declined(req: Request) -> Payment:
        raise CardDeclinedError("51")

    pay = till.operation(declined, declines=OnlyTexts())
    for error in (CardDeclinedError, UnreadableReplayError):
        with pytest.raises(error):
            pay(Request())
    assert len(till.runs) == 1


def test_a_hook_that_cannot_say_whether_an_answer_stands_in_keeps_nothing(till: Till) -> None:
    def broken(answer: Payment) -> bool:
        raise LookupError

    assert till.operation(paid, provisional=broken)(Request()) == paid(Request())
    assert till.states() == [KeyState.INDETERMINATE]
