"""The laws of outboxes: committed is published, rolled back never; one owner, one order, and nothing is lost."""

from __future__ import annotations

from finresilience.testing.contracts._base import machine
from finresilience.testing.contracts._outbox_blame import BlameLaws
from finresilience.testing.contracts._outbox_deaths import DeathLaws
from finresilience.testing.contracts._outbox_edges import EdgeLaws
from finresilience.testing.contracts._outbox_leases import LeaseLaws
from finresilience.testing.contracts._outbox_letters import LetterLaws
from finresilience.testing.contracts._outbox_people import OperatorLaws
from finresilience.testing.contracts._outbox_replays import ReplayLaws
from finresilience.testing.contracts._outbox_rows import RowLaws
from finresilience.testing.contracts._outbox_shares import ShareLaws
from finresilience.testing.contracts._outbox_writes import WriteLaws


class OutboxStoreContract(WriteLaws, LeaseLaws, ShareLaws, RowLaws, DeathLaws, BlameLaws, LetterLaws, OperatorLaws, ReplayLaws, EdgeLaws):
    """The laws of an `OutboxStore` or `AsyncOutboxStore`.

    class TestMyOutbox(contracts.OutboxStoreContract):
        def make_store(self):
            return MyOutbox(clock=self.clock)

        def transaction(self, store):
            return engine.begin()
    """

    @machine
    def test_it_agrees_with_a_model(self) -> None:
        """Whatever is done in whatever order, the outbox answers as a model of these laws does."""
        from finresilience.testing.contracts._outbox_machine import drive

        drive(self)
