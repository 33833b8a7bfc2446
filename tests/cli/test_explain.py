"""`finresilience explain`: the worst case, for a person and for CI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finresilience import Effect, Pipeline, Retry, Timeout
from finresilience.cli.app import App

if TYPE_CHECKING:
    from tests.cli.commands import Shell

CHARGE = Pipeline("acme.charge", Retry(attempts=3), Timeout(2.0), deadline=5.0, effect=Effect.READ)
ENDLESS = Pipeline("acme.find", Retry(attempts=2), effect=Effect.READ)


def test_a_pipeline_is_explained_as_it_explains_itself(finresilience: Shell) -> None:
    finresilience.let(app=CHARGE)
    said = finresilience("explain", "--workers", 4)
    assert (said.code, said.out) == (0, f"{CHARGE.explain(workers=4)}\n")


def test_several_are_explained_one_after_the_other(finresilience: Shell) -> None:
    for many in ([CHARGE, ENDLESS], App(pipelines=(CHARGE, ENDLESS))):
        finresilience.let(app=many)
        told = finresilience("explain", "--json").document
        assert [one["name"] for one in told["pipelines"]] == ["acme.charge", "acme.find"]


def test_a_time_without_limit_is_null_and_not_infinity(finresilience: Shell) -> None:
    finresilience.let(app=ENDLESS)
    assert finresilience("explain", "--json").document["pipelines"][0]["seconds"] is None


def test_strictly_a_warning_ends_with_one(finresilience: Shell) -> None:
    finresilience.let(app=ENDLESS)
    assert [finresilience("explain", *more).code for more in ((), ("--strict",))] == [0, 1]


def test_nothing_that_is_explained_is_called(finresilience: Shell) -> None:
    called: list[str] = []

    @CHARGE
    def charge() -> None:
        called.append("money moved")

    finresilience.let(app=charge)
    said = finresilience("explain")
    assert (said.code, called) == (2, [])
