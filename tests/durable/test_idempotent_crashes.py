"""The process dies at every place that has a name, and once more in each recovery: one effect, or a doubt, and never two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience import Found, NotFound, UnknownOutcomeError, current_key
from finresilience.durable.idempotent_core import Begin, IdempotentCore
from finresilience.durable.records import KeyState
from finresilience.testing import CounterexampleError, crash
from tests.durable.idempotents import FLAVOURS, LEASE, Payment, Request, Till, paid

if TYPE_CHECKING:
    from finresilience.durable.records import Claimed

POINTS = ["idempotent.claimed", "idempotent.done", "idempotent.stored"]


class Provider:
    """What outlives every process: how often it paid, and under which keys."""

    def __init__(self, *, dedupes: bool) -> None:
        self.dedupes = dedupes
        self.keys: list[str] = []

    def charge(self, req: Request) -> Payment:
        key = current_key() or ""
        if not (self.dedupes and key in self.keys):
            self.keys.append(key)
        return paid(req)


def a_payment(flavour: str, *, dedupes: bool, core: type[IdempotentCore] = IdempotentCore, asks: bool = False, **more: Any) -> Any:
    till, provider = Till(flavour), Provider(dedupes=dedupes)

    def recover(claimed: Claimed, req: Request) -> Any:
        return Found(paid(req)) if provider.keys else NotFound()

    if asks:
        more["recover"] = recover
    till.kinds = {name: type("Mine", (kind,), {"core_of": core}) for name, kind in till.kinds.items()}

    def pay() -> Any:
        return till.operation(provider.charge, **more)(Request())

    def once_and_for_all() -> None:
        till.advance(LEASE + 1)
        if dedupes or asks:
            assert pay() == paid(Request())
            assert (len(provider.keys), till.states()) == (1, [KeyState.COMPLETED])
            return
        try:
            assert pay() == paid(Request())
        except UnknownOutcomeError:
            assert till.states() == [KeyState.INDETERMINATE]
        assert len(provider.keys) <= 1

    return pay, once_and_for_all


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_provider_that_knows_its_keys_pays_once_wherever_we_die(flavour: str) -> None:
    covered = crash.everywhere(lambda: a_payment(flavour, dedupes=True, rerun_within=LEASE * 100), must_reach=POINTS)
    assert covered.runs >= 10


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_provider_that_can_be_asked_pays_once_wherever_we_die(flavour: str) -> None:
    covered = crash.everywhere(lambda: a_payment(flavour, dedupes=False, asks=True), must_reach=[*POINTS, "idempotent.asked"])
    assert covered.runs >= 10


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_provider_that_knows_nothing_is_never_sent_it_twice(flavour: str) -> None:
    crash.everywhere(lambda: a_payment(flavour, dedupes=False), must_reach=POINTS)


class HeirsJustRun(IdempotentCore):
    """Takes a dead holder's key for a new one."""

    def begin(self, claimed: Claimed) -> Begin:
        return Begin.RUN


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_heir_who_just_runs_is_caught(flavour: str) -> None:
    with pytest.raises(CounterexampleError, match=r"idempotent\.done"):
        crash.everywhere(lambda: a_payment(flavour, dedupes=False, core=HeirsJustRun))


def test_the_dead_write_nothing() -> None:
    till = Till("sync")
    with pytest.raises(crash.Crashed), crash.at("idempotent.claimed"):
        till.operation(paid)(Request())
    assert till.states() == [KeyState.IN_PROGRESS]
