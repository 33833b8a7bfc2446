"""How long does a fake provider live, what does it keep, and what does it say to those who use it wrongly?"""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

from finresilience.errors import ConfigurationError
from finresilience.outcome import RETRYABLE
from finresilience.testing.clock import ManualClock
from finresilience.testing.errors import BoundReachedError
from finresilience.testing.faults import Fault, FaultKind, FaultPlan
from finresilience.testing.ledger import Ledger
from finresilience.testing.provider import FakeProvider, ProviderError, ProviderTimeoutError
from tests.testing.providing import EUR, NOTHING, Seen, asked, charged, failing, heard

K = FaultKind


def test_two_runs_are_the_same_to_the_last_letter() -> None:
    plan = FaultPlan([Fault(kind=kind, probability=0.1) for kind in FaultKind], seed=12)

    def run() -> tuple[object, ...]:
        provider = FakeProvider("acme", plan, clock=ManualClock())
        ends = [charged(provider, reference=f"pay_{number}") for number in range(100)]
        return ends, provider.visits, provider.ledger, list(provider.deliveries(late=True))

    assert run() == run()


def test_the_journal_holds_every_request_and_how_it_ended() -> None:
    provider = failing(K.RESET_AFTER)
    charged(provider)
    charged(provider)
    asked(provider)
    rows = [(visit.operation, visit.attempt, visit.fault, visit.how, visit.status) for visit in provider.visits]
    assert rows == [
        ("charge", 1, K.RESET_AFTER, "reset", None),
        ("charge", 2, None, "answer", 201),
        ("inquiry", 1, None, "answer", 200),
    ]


def test_an_outage_lasts_as_long_as_its_window() -> None:
    clock = ManualClock()
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.BUSY, since=10.0, until=20.0)]), clock=clock)
    words: list[str] = []
    for number in range(4):
        words.append(charged(provider, reference=f"pay_{number}").word)
        clock.advance(8.0)
    assert words == ["succeeded", "succeeded", "busy", "succeeded"]  # at 0, 8, 16 and 24 s


def test_a_healed_plan_heals_whoever_shares_it_and_a_healed_provider_only_itself() -> None:
    plan = FaultPlan([Fault(kind=K.RESET)])
    acme, globex = (FakeProvider(name, plan, clock=ManualClock()) for name in ("acme", "globex"))
    acme.heal()
    assert (charged(acme).word, charged(globex).word) == ("succeeded", "reset")
    plan.heal()
    assert charged(globex).word == "succeeded"


def test_a_healed_provider_does_what_it_is_asked() -> None:
    provider = FakeProvider("acme", FaultPlan([Fault(kind=K.RESET)]))
    assert charged(provider).word == "reset"
    provider.heal()
    assert charged(provider).word == "succeeded"


def test_the_bound_is_told_and_the_books_stay_true() -> None:
    provider = failing(at_most=3)
    for number in range(3):
        charged(provider, reference=f"pay_{number}")
    with pytest.raises(BoundReachedError, match="at_most"):
        charged(provider, reference="pay_3")
    assert len(provider.ledger) == 3


def test_a_ledger_is_what_was_true_when_it_was_asked_for() -> None:
    provider = failing()
    before = provider.ledger
    charged(provider)
    assert (len(before), len(provider.ledger), provider.ledger == provider.ledger) == (0, 1, True)
    assert provider.ledger.of("pay_1").references() == ("pay_1",)
    assert isinstance(provider.ledger[:1], Ledger)


def test_errors_survive_a_queue_with_what_they_know() -> None:
    provider = failing(K.DECLINE)
    with pytest.raises(ProviderError) as caught:
        provider.charge("pay_1", EUR)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.receipt, again.sent) == (
        type(caught.value),
        "acme.charge: 402 declined (insufficient_funds)",
        caught.value.receipt,
        True,
    )


def test_to_import_it_loads_nothing_heavy() -> None:
    heavy = "{'anyio', 'asyncio', 'trio', 'pytest', 'hypothesis', 'http.server', 'http.client', 'socket', 'sqlalchemy'}"
    told = subprocess.run(
        [sys.executable, "-c", f"import finresilience.testing.provider, sys; print({heavy} & set(sys.modules))"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == "set()"


def test_errors_carry_no_key() -> None:
    provider = failing(K.DECLINE)
    with pytest.raises(ProviderError) as caught:
        provider.charge("pay_1", EUR, key="a secret key")
    assert "secret" not in f"{caught.value} {caught.value!r} {provider!r} {caught.value.receipt!r}"


@pytest.mark.parametrize(
    "told",
    [
        {"name": ""},
        {"plan": [Fault(kind=K.HANG)]},
        {"latency": -1.0},
        {"patience": 0.0},
        {"patience": float("inf")},
        {"keys": 0},
        {"keys_kept_for": 0.0},
        {"webhooks": 0},
        {"at_most": 0},
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_when_it_is_made(told: dict[str, Any]) -> None:
    told.setdefault("name", "acme")
    with pytest.raises(ConfigurationError):
        FakeProvider(**told)


@pytest.mark.parametrize(
    ("reference", "amount", "key"),
    [("", EUR, None), ("pay_1", NOTHING, None), ("pay_1", -EUR, None), ("pay_1", 12.5, None), ("pay_1", None, None), ("pay_1", EUR, "")],
)
def test_a_charge_that_makes_no_sense_is_refused_before_it_is_sent(reference: str, amount: Any, key: Any) -> None:
    provider = failing()
    with pytest.raises(ConfigurationError):
        provider.charge(reference, amount, key=key)
    assert provider.visits == ()


def test_an_inquiry_about_no_operation_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="operation="):
        failing().inquiry("pay_1", "dance")


def test_a_plan_that_is_none_is_refused_later_too() -> None:
    provider: Any = failing()
    with pytest.raises(ConfigurationError, match="plan="):
        provider.plan = None
    assert isinstance(heard(provider, lambda: provider.charge("pay_1", EUR)), Seen)


def test_a_timeout_of_a_caller_without_time_says_that_nothing_was_sent() -> None:
    error = ProviderTimeoutError("acme: no time", sent=False)
    assert FakeProvider.classifier().error(error).classification is RETRYABLE
