"""Somebody had the key and did not finish. His heir asks before he runs, or runs only where that is declared safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience import ConfigurationError, Found, NotFound, StillUnknown, UnknownOutcomeError, current_key
from finresilience.durable.errors import StaleTokenError
from finresilience.durable.idempotent import current_claim
from finresilience.durable.idempotent_errors import ReplayedDeclineError
from finresilience.durable.records import KeyState
from tests.durable.idempotents import FLAVOURS, LEASE, RULES, CardDeclinedError, DownError, Payment, Request, Till, paid

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.durable.records import Claimed


@pytest.fixture(params=FLAVOURS)
def till(request: pytest.FixtureRequest) -> Till:
    return Till(request.param)


def answering(answer: Any) -> Callable[..., Any]:
    def recover(claimed: Claimed, req: Request) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return recover


def test_an_heir_who_can_ask_nobody_runs_nothing(till: Till) -> None:
    till.left_behind()
    for _ in range(2):
        with pytest.raises(UnknownOutcomeError):
            till.operation(paid)(Request())
    assert (till.runs, till.states()) == ([], [KeyState.INDETERMINATE])


def test_what_the_provider_has_is_the_answer_and_is_stored(till: Till) -> None:
    till.left_behind()
    pay = till.operation(paid, recover=answering(Found(Payment("ref_7", Request().amount))))
    assert pay(Request()) == pay(Request()) == Payment("ref_7", Request().amount)
    assert (till.runs, till.states()) == ([], [KeyState.COMPLETED])


def test_what_the_provider_has_declined_is_a_no(till: Till) -> None:
    from finresilience import NON_RETRYABLE, ErrorClassifier

    till.left_behind()
    no = Payment("", Request().amount, "declined")
    rules = ErrorClassifier(when=[(lambda subject: subject == no, NON_RETRYABLE)]) | RULES
    assert till.operation(paid, recover=answering(Found(no)), classify=rules)(Request()) == no
    assert (till.runs, till.states()) == ([], [KeyState.FAILED_FINAL])


def test_what_the_provider_has_never_seen_is_run(till: Till) -> None:
    till.left_behind()
    assert till.operation(paid, recover=answering(NotFound()))(Request()) == paid(Request())
    assert (len(till.runs), till.states()) == (1, [KeyState.COMPLETED])


def test_what_the_provider_cannot_say_is_in_doubt(till: Till) -> None:
    till.left_behind()
    with pytest.raises(UnknownOutcomeError):
        till.operation(paid, recover=answering(StillUnknown()))(Request())
    assert (till.runs, till.states()) == ([], [KeyState.INDETERMINATE])


@pytest.mark.parametrize("answer", [DownError(), None, paid(Request())], ids=["it raises", "nothing", "not wrapped"])
def test_an_ask_that_fails_tells_nothing_and_the_next_one_asks_again(till: Till, answer: Any) -> None:
    till.left_behind()
    with pytest.raises(UnknownOutcomeError):
        till.operation(paid, recover=answering(answer))(Request())
    assert till.states() == [KeyState.IN_PROGRESS]
    till.operation(paid, recover=answering(NotFound()))(Request())
    assert len(till.runs) == 1


def test_a_first_claimant_asks_nobody(till: Till) -> None:
    assert till.operation(paid, recover=answering(AssertionError()))(Request()) == paid(Request())


def test_the_asking_knows_the_key_and_what_was_noted(till: Till) -> None:
    seen: list[Any] = []

    def recover(claimed: Claimed, req: Request) -> Any:
        mine = current_claim()
        seen.append((current_key(), claimed.recovery_point, mine.takeovers, mine.recovery_point, mine.data))
        return NotFound()

    till.left_behind(point="sent")
    till.operation(paid, recover=recover)(Request())
    assert seen == [("pay_1:acc_1", "sent", 1, "sent", b"ref_9")]


def test_an_heir_runs_what_is_declared_safe_to_repeat(till: Till) -> None:
    till.left_behind()
    assert till.operation(paid, rerun_within=LEASE * 2)(Request()) == paid(Request())


def test_an_heir_runs_nothing_once_the_provider_may_have_forgotten_the_key(till: Till) -> None:
    till.left_behind()
    till.advance(LEASE * 2)
    with pytest.raises(UnknownOutcomeError):
        till.operation(paid, rerun_within=LEASE * 2)(Request())
    assert (till.runs, till.states()) == ([], [KeyState.INDETERMINATE])


def test_what_an_heir_is_refused_goes_to_the_next_heir(till: Till) -> None:
    def down(req: Request) -> Payment:
        raise DownError

    till.left_behind()
    with pytest.raises(DownError):
        till.operation(down, recover=answering(NotFound()))(Request())
    assert till.states() == [KeyState.IN_PROGRESS]  # let go, and not forgotten: the one before may have sent it
    till.operation(paid, recover=answering(NotFound()))(Request())
    assert till.records()[0].takeovers == 2


def test_another_request_does_not_inherit_the_key(till: Till) -> None:
    from finresilience.durable.idempotent_errors import KeyMismatchError

    till.left_behind()
    with pytest.raises(KeyMismatchError):
        till.operation(paid, recover=answering(NotFound()))(Request(account="acc_1", amount=Request().amount * 2))
    assert till.runs == []


def test_a_decline_of_an_heir_is_a_decline(till: Till) -> None:
    def declined(req: Request) -> Payment:
        raise CardDeclinedError("51")

    till.left_behind()
    pay = till.operation(declined, recover=answering(NotFound()))
    for error in (CardDeclinedError, ReplayedDeclineError):
        with pytest.raises(error):
            pay(Request())


def test_an_heir_says_what_it_was_told(till: Till) -> None:
    till.left_behind()
    till.operation(paid, recover=answering(NotFound()))(Request())
    assert [(event.answer, event.takeovers) for event in till.told] == [("not_found", 1)]


def test_a_body_notes_how_far_it_is() -> None:
    till = Till("sync")

    def body(req: Request) -> Payment:
        current_claim().advance("sent", data=b"ref_1")
        return paid(req)

    till.operation(body)(Request())
    assert (till.records()[0].recovery_point, till.records()[0].data) == ("sent", b"ref_1")


@pytest.mark.parametrize("flavour", ["asyncio", "trio"])
def test_so_does_an_async_one_and_what_it_notes_is_sealed(flavour: str) -> None:
    till = Till(flavour)

    def turned(data: bytes, about: bytes) -> bytes:
        return data[::-1]

    async def body(req: Request) -> Payment:
        await current_claim().aadvance("sent", data=b"ref_1")
        return paid(req)

    till.run(till.made(seal=(turned, turned))(body), Request())
    assert (till.records()[0].recovery_point, till.records()[0].data) == ("sent", b"1_fer")


def test_a_holder_who_has_an_heir_cannot_note_anything() -> None:
    till = Till("sync")
    refused: list[str] = []

    def body(req: Request) -> Payment:
        till.advance(LEASE + 1)
        till.claimed_by_another()
        try:
            current_claim().advance("sent")
        except StaleTokenError as error:
            refused.append(error.what)
        return paid(req)

    assert till.operation(body)(Request()) == paid(Request())
    assert refused == ["advance"]


def test_outside_of_a_body_there_is_no_claim() -> None:
    with pytest.raises(ConfigurationError, match="its body"):
        current_claim()


def test_a_claim_shows_no_key() -> None:
    till = Till("sync")
    shown: list[str] = []

    def body(req: Request) -> Payment:
        shown.append(repr(current_claim()))
        return paid(req)

    till.operation(body)(Request())
    assert shown == ["<CurrentClaim of pay, fence 1, 0 takeovers>"]
