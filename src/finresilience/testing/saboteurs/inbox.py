"""Inboxes that are broken in one place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from finresilience.durable.memory_inbox import Failures, MemoryInboxStore
from finresilience.durable.memory_transaction import MemoryTransaction
from finresilience.durable.seen import UNFINISHED, Counted, Duplicate, Fresh, Parked, ParkedMessage, Seen, Stale, Underway
from finresilience.testing.saboteurs import saboteur
from finresilience.testing.saboteurs.idempotency_leases import commits_when_interrupted

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTRACT = "InboxContract"

# ---------------------------------------------------------------- once


@saboteur(CONTRACT, kills="test_of_any_number_of_deliveries_one_is_handled")
class MarksAfterTheEffect(MemoryInboxStore):
    """Looks for the marker first and writes it when the effect is done: two deliveries at once are both handled."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        told = super().once(within, **more)
        if isinstance(told, Fresh):
            self._markers._locked.clear()  # as if it had only looked
        return told


@saboteur(CONTRACT, kills="test_effect_and_marker_are_one")
class MarksBesideTheEffect(MemoryInboxStore):
    """Writes the marker in a transaction of its own: if the effect fails, the message is lost."""

    def once(self, within: Any, **more: Any) -> Seen:
        with MemoryTransaction() as own:
            return super().once(within and own, **more)


@saboteur(CONTRACT, kills="test_an_interruption_takes_the_marker_back")
class LeavesMarkersOfTheCancelled(MemoryInboxStore):
    """Rolls back for exceptions only: a consumer that is cancelled leaves a marker, and its message is lost."""

    def transaction(self) -> Any:
        return commits_when_interrupted()


@saboteur(CONTRACT, kills="test_a_marker_needs_the_callers_transaction")
class NeedsNoTransaction(MemoryInboxStore):
    """Takes no transaction for a wish to have one of its own."""

    def once(self, within: Any, **more: Any) -> Seen:
        if within is not None:
            return super().once(within, **more)
        with MemoryTransaction() as own:
            return super().once(own, **more)


@saboteur(CONTRACT, kills="test_a_message_is_handled_once")
class ForgetsInAMinute(MemoryInboxStore):
    """Keeps markers for a minute, as a broker's window of duplicates does."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        self.purge(older_than=60)
        return super().once(within, **more)


@saboteur(CONTRACT, kills="test_only_what_is_fresh_is_true")
class AnswersWithWords(MemoryInboxStore):
    """Answers with a word, and every word is true."""

    def once(self, within: MemoryTransaction, **more: Any) -> Any:
        return type(super().once(within, **more)).__name__


@saboteur(CONTRACT, kills="test_groups_and_tenants_share_nothing")
class OneGroupForAll(MemoryInboxStore):
    """Forgets which consumers handled a message, so that each is handled by one group only."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        more.update(group=more["group"] and "all")
        return super().once(within, **more)


@saboteur(CONTRACT, kills="test_the_delivery_does_not_matter")
class KnowsDeliveriesOnly(MemoryInboxStore):
    """Takes the id of the delivery for that of the message: a second delivery of it is handled again."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        more.update(message_id=more.get("delivery_id") or more["message_id"])
        return super().once(within, **more)


@saboteur(CONTRACT, kills="test_ids_are_compared_exactly")
class FoldsIds(MemoryInboxStore):
    """Takes ids for equal that differ in case or in blanks: one of two messages is lost."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        given = more["message_id"]
        folded = given.strip().casefold() if isinstance(given, str) else given
        more.update(message_id=folded or given)
        return super().once(within, **more)


@saboteur(CONTRACT, kills="test_what_cannot_work_is_refused_at_the_door")
class TakesEveryPosition(MemoryInboxStore):
    """Takes a position below zero for none."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        position = more.get("position")
        if isinstance(position, int) and position < 0:
            more.update(entity=None, position=None)
        return super().once(within, **more)


@saboteur(CONTRACT, kills="test_who_meets_an_open_transaction_is_not_told_duplicate")
class BelievesWhatIsNotCommitted(MemoryInboxStore):
    """Calls a message a duplicate while its first handling may yet be rolled back: then nobody handles it."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        told = super().once(within, **more)
        return Duplicate(0.0) if isinstance(told, Underway) else told


# ---------------------------------------------------------------- high-water marks


@saboteur(CONTRACT, kills="test_an_event_behind_the_high_water_mark_is_stale")
class LetsTheSamePositionPass(MemoryInboxStore):
    """Compares positions by `<`: another event at the position of the last is handled too."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        told = super().once(within, **more)
        if isinstance(told, Stale) and told.high_water == more["position"]:
            more.update(entity=None, position=None)
            return super().once(within, **more)
        return told


@saboteur(CONTRACT, kills="test_a_rollback_takes_the_high_water_mark_back")
class RaisesTheMarkAtOnce(MemoryInboxStore):
    """Raises the mark beside the transaction: after a rollback the events before it are stale, and lost."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        told = super().once(within, **more)
        if isinstance(told, Fresh) and more.get("entity") is not None:
            place = (more.get("tenant", ""), more["group"], more["entity"])
            self._marks._locked.pop(place, None)
            self._marks.put(place, more["position"])
        return told


@saboteur(CONTRACT, kills="test_events_of_one_entity_cannot_pass_each_other")
class MarksAreNotLocked(MemoryInboxStore):
    """Does not lock the mark that it raises: an earlier event commits after a later one, and pulls the mark down."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        told = super().once(within, **more)
        self._marks._locked.clear()
        return told


# ---------------------------------------------------------------- failures


@saboteur(CONTRACT, kills="test_a_failure_outlives_the_rollback_of_the_work")
class CountsInsideTheTransaction(MemoryInboxStore):
    """Counts runs in the transaction of the work: the rollback takes the count back, and poison runs for ever."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        told = super().once(within, **more)
        place = (more.get("tenant", ""), more["group"], more["message_id"])
        if isinstance(told, Fresh):
            self._failures.put(place, Failures(told.failures + 1, 0.0, 0.0, "", ""), within)
        return told

    def failed(self, *, group: str, message_id: str, tenant: str = "", reason: str = "", delivery_id: str = "") -> Counted:
        known = self._failures.get((tenant, group, message_id))
        return Counted(0 if known is None else known.number, parked=False)


@saboteur(CONTRACT, kills="test_poison_is_parked_and_not_run_for_ever")
class NeverParks(MemoryInboxStore):
    """Counts failures and draws no conclusion: a message that kills its consumers is handed out for ever."""

    def _known(self, at: Any, mark: Any, position: int | None, mine: MemoryTransaction) -> Seen | None:
        told = super()._known(at, mark, position, mine)
        return None if isinstance(told, Parked) else told


@saboteur(CONTRACT, kills="test_poison_harms_nobody_else")
class OneCountForAllGroups(MemoryInboxStore):
    """Tells the failures of one group's consumers to every other group."""

    def once(self, within: MemoryTransaction, **more: Any) -> Seen:
        told = super().once(within, **more)
        known = [row.number for place, row in self._failures.all() if place[2] == more["message_id"]]
        return replace(told, failures=max(known)) if isinstance(told, Fresh) and known else told


@saboteur(CONTRACT, kills="test_failures_at_once_are_all_counted")
class ReadsAndWritesTheCount(MemoryInboxStore):
    """Reads the count, and writes it back: of failures at once only one is counted."""

    def failed(self, *, group: str, message_id: str, tenant: str = "", reason: str = "", delivery_id: str = "") -> Counted:
        known = self._failures.get((tenant, group, message_id))
        number = 1 if known is None else known.number + 1
        parked = number >= self.park_after
        self._failures.put((tenant, group, message_id), Failures(number, 0.0, 0.0, reason, delivery_id, parked))
        return Counted(number, parked=parked)


@saboteur(CONTRACT, kills="test_what_was_handled_has_no_failures")
class ParksTheHandled(MemoryInboxStore):
    """Counts failures of what was handled, and asks people to look at messages that are done."""

    def failed(self, *, group: str, message_id: str, tenant: str = "", reason: str = "", delivery_id: str = "") -> Counted:
        place, now = (tenant, group, message_id), self._clock.monotonic()
        known = self._failures.get(place) or Failures(0, now, now, "", "")
        return self._counted(place, replace(known, number=known.number + 1, reason=reason, delivery_id=delivery_id))


@saboteur(CONTRACT, kills="test_a_failure_that_was_nobodys_is_taken_back")
class ForgivesAll(MemoryInboxStore):
    """Takes all failures back where one was forgiven: poison that is now and then refused runs for ever."""

    def forgiven(self, *, group: str, message_id: str, tenant: str = "") -> Counted:
        self._failures.put((tenant, group, message_id), None)
        return Counted(0, parked=False)


@saboteur(CONTRACT, kills="test_a_run_that_is_counted_before_it_is_made_is_made")
class ParksBeforeTheLastRun(MemoryInboxStore):
    """Parks a message as soon as its last run is counted: it is never made, and poison has a run less than was promised."""

    def begun(self, *, group: str, message_id: str, tenant: str = "", delivery_id: str = "") -> Counted:
        return self.failed(group=group, message_id=message_id, tenant=tenant, reason=UNFINISHED, delivery_id=delivery_id)


@saboteur(CONTRACT, kills="test_a_run_that_is_counted_before_it_is_made_is_made")
class CountsNoRunThatDied(MemoryInboxStore):
    """Counts no run before it is made: a message that kills its consumer kills one after the other, for ever."""

    def begun(self, *, group: str, message_id: str, tenant: str = "", delivery_id: str = "") -> Counted:
        told = super().begun(group=group, message_id=message_id, tenant=tenant, delivery_id=delivery_id)
        return self.forgiven(group=group, message_id=message_id, tenant=tenant) if told.failures else told


@saboteur(CONTRACT, kills="test_a_counted_run_that_fails_is_one_failure")
class TellsNoReasonButItsOwn(MemoryInboxStore):
    """Keeps the reason of a run that was counted before it was made: whoever looks at the parked message is told a falsehood."""

    def failed(self, *, group: str, message_id: str, tenant: str = "", reason: str = "", delivery_id: str = "") -> Counted:
        told = super().failed(group=group, message_id=message_id, tenant=tenant, reason=reason, delivery_id=delivery_id)
        known = self._failures.get((tenant, group, message_id))
        if known is not None and told.parked and reason.startswith("Boom"):
            self._failures.put((tenant, group, message_id), replace(known, reason=UNFINISHED))
        return told


@saboteur(CONTRACT, kills="test_a_run_of_what_was_handled_is_not_counted")
class CountsRunsOfTheHandled(MemoryInboxStore):
    """Counts the runs of messages that were handled: a broker that delivers one again and again has it parked."""

    def begun(self, *, group: str, message_id: str, tenant: str = "", delivery_id: str = "") -> Counted:
        told = super().begun(group=group, message_id=message_id, tenant=tenant, delivery_id=delivery_id)
        return told if told.failures else Counted(1, parked=False)


@saboteur(CONTRACT, kills="test_a_person_lets_go_what_is_parked")
class UnparksWithItsFailures(MemoryInboxStore):
    """Lets a message go with its failures but one, so that it is parked again by the next."""

    def unpark(self, *, group: str, message_id: str, tenant: str = "") -> bool:
        known = self._failures.get((tenant, group, message_id))
        if not super().unpark(group=group, message_id=message_id, tenant=tenant) or known is None:
            return False
        self._failures.put((tenant, group, message_id), replace(known, number=self.park_after - 1, parked=False))
        return True


@saboteur(CONTRACT, kills="test_the_longest_parked_come_first")
class ListsTheNewestFirst(MemoryInboxStore):
    """Lists what was parked last, so that the oldest are never looked at."""

    def parked(self, *, limit: int = 100) -> Sequence[ParkedMessage]:
        return list(reversed(super().parked(limit=10_000)))[:limit]


# ---------------------------------------------------------------- forgetting, and what is printed


@saboteur(CONTRACT, kills="test_a_purge_forgets_old_markers_only")
class PurgesThePoison(MemoryInboxStore):
    """Purges what is parked, so that poison runs anew and nobody ever looks at it."""

    def purge(self, *, older_than: Any, limit: int = 1000) -> int:
        told = super().purge(older_than=older_than, limit=limit)
        for message in self.parked():
            if message.idle >= older_than:
                self._failures.put((message.tenant, message.group, message.message_id), None)
        return told


@saboteur(CONTRACT, kills="test_nothing_secret_is_printed")
class PrintsItsMessages(MemoryInboxStore):
    """Shows its messages when it is printed, and so in every log."""

    def __repr__(self) -> str:
        return f"<PrintsItsMessages {[place for place, _ in self._markers.all()]}>"


@saboteur(CONTRACT, kills="test_it_agrees_with_a_model")
class APurgeLetsParkedOnesGo(MemoryInboxStore):
    """Takes one failure off whatever is parked with every purge, as if time healed poison."""

    def purge(self, *, older_than: Any, limit: int = 1000) -> int:
        for message in self.parked():
            self.forgiven(group=message.group, message_id=message.message_id, tenant=message.tenant)
        return super().purge(older_than=older_than, limit=limit)
