"""A user's own saboteurs are held against a user's own laws, and the one that lives is told by name."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from finresilience.durable.memory_idempotency import MemoryIdempotencyStore
from finresilience.errors import ConfigurationError
from finresilience.testing import contracts, saboteurs
from finresilience.testing.contracts._base import ask, law
from finresilience.testing.saboteurs import catalogue, saboteur, survivors

HERE = sys.modules[__name__]


class Mine(contracts.IdempotencyStoreContract):
    """A contract with a law of its own."""

    def make_store(self) -> MemoryIdempotencyStore:
        return MemoryIdempotencyStore(clock=self.clock)

    @law
    async def test_status_is_in_capitals(self, store: Any) -> None:
        """A status is kept as it was written."""
        token = (await self.claimed(store)).token
        await ask(store.complete(token, b"", status="PAID"))
        record = await self.find(store)
        assert record is not None
        assert record.status == "PAID"


@saboteur(Mine, kills="test_status_is_in_capitals")
class WritesSmall(MemoryIdempotencyStore):
    """Writes every status in small letters."""

    def complete(self, token: Any, response: bytes, *, status: str = "", within: Any = None) -> None:
        super().complete(token, response, status=status.lower(), within=within)


@saboteur("Mine", kills="test_status_is_in_capitals")
class Honest(MemoryIdempotencyStore):
    """Does nothing wrong.

    It only says so.
    """


@saboteur("Mine", kills="test_status_is_in_capitals")
class Clumsy(MemoryIdempotencyStore):
    """Cannot be made."""

    def __init__(self, dsn: str) -> None:
        super().__init__()


def test_a_class_is_marked_by_its_contract_or_by_the_contracts_name() -> None:
    told = catalogue(Mine, within=[HERE])
    assert [row.name for row in told] == ["WritesSmall", "Honest", "Clumsy"]
    assert {row.contract for row in told} == {"Mine"}
    assert catalogue("Mine", within=[WritesSmall]) == told[:1]
    assert told[1].sentence == "Does nothing wrong."


def test_ours_and_yours_are_listed_apart() -> None:
    assert not {row.name for row in catalogue()} & {"WritesSmall", "Honest", "Clumsy"}
    assert catalogue("Mine") == ()
    assert catalogue("IdempotencyStoreContract", within=[HERE]) == ()


def test_a_saboteur_that_dies_by_its_law_is_no_survivor() -> None:
    assert survivors(Mine, within=[WritesSmall]) == {}


def test_a_saboteur_that_lives_is_told_with_what_was_not_noticed() -> None:
    assert survivors(Mine, within=[WritesSmall, Honest]) == {"Honest": "test_status_is_in_capitals did not notice: Does nothing wrong."}


def test_a_saboteur_that_does_not_work_proves_nothing() -> None:
    class Unmakable(Mine):
        def make_store(self) -> Any:
            return Clumsy()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue] - under test

    told = survivors(Mine, within=[Clumsy], held=lambda _: Unmakable)
    assert "does not work at all: TypeError" in told["Clumsy"]


def test_a_saboteur_that_cannot_be_called_is_held_by_a_contract_that_makes_it() -> None:
    def held(row: saboteurs.Row) -> type[Mine]:
        class Held(Mine):
            def make_store(self) -> MemoryIdempotencyStore:
                made: MemoryIdempotencyStore = row.make(clock=self.clock)
                return made

        return Held

    assert survivors(Mine, within=[WritesSmall], held=held) == {}


@pytest.mark.parametrize("thing", [MemoryIdempotencyStore, "Honest", None, Mine])
def test_what_is_no_saboteur_is_refused(thing: Any) -> None:
    with pytest.raises(ConfigurationError, match="saboteur"):
        catalogue(within=[thing])


def test_no_saboteur_at_all_proves_nothing() -> None:
    with pytest.raises(contracts.ContractError, match="no saboteur of Mine"):
        survivors(Mine)


def test_a_law_that_is_not_there_is_a_mistake_and_no_death() -> None:
    @saboteur(Mine, kills="test_nobody_wrote_it")
    class Lost(MemoryIdempotencyStore):
        """Breaks nothing that is known."""

    with pytest.raises(contracts.ContractError, match="test_nobody_wrote_it"):
        survivors(Mine, within=[Lost])


def test_a_subclass_of_a_saboteur_is_none_by_itself() -> None:
    class Child(WritesSmall):
        """Is not marked."""

    with pytest.raises(ConfigurationError):
        catalogue(within=[Child])
