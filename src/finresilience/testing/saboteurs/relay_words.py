"""Known-bad relays that do not hear what the broker says, or do not tell the store what it must know."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from finresilience.durable.relay import Relay
from finresilience.durable.relay_core import RelayCore
from finresilience.durable.relay_steps import Mark, Step
from finresilience.testing.saboteurs import saboteur

if TYPE_CHECKING:
    from finresilience.durable.messages import OutboxRow
    from finresilience.durable.outbox import PartitionLease

CONTRACT: Final = "RelayContract"


@saboteur(CONTRACT, kills="test_an_answer_may_be_a_failure")
class TakesEveryAnswerForAYes(Relay):
    """Takes whatever does not raise for a success: a broker that answers 503 has every row settled, and none of them arrived."""

    def _answered(self, core: RelayCore, row: OutboxRow, answer: object) -> bool:
        del answer
        return super()._answered(core, row, None)


class _ForgetsWhatArrived(RelayCore):
    def store_failed(self, lease: PartitionLease | None, *, now: float, u: float) -> float:
        """Begin anew."""
        held = None if lease is None else self._of(lease)
        if held is not None:
            held.confirmed.clear()
        return super().store_failed(lease, now=now, u=u)


@saboteur(CONTRACT, kills="test_a_store_that_fails_at_any_step_is_asked_again")
class ForgetsWhatArrived(Relay):
    """Forgets what the broker has confirmed when the store fails to hear of it: each hiccup of the database publishes rows twice."""

    core: ClassVar[type[RelayCore]] = _ForgetsWhatArrived


class _ForgetsTheNo(RelayCore):
    def store_failed(self, lease: PartitionLease | None, *, now: float, u: float) -> float:
        """Begin anew."""
        held = None if lease is None else self._of(lease)
        if held is not None:
            held.answers.clear()
        return super().store_failed(lease, now=now, u=u)


@saboteur(CONTRACT, kills="test_a_no_is_told_to_the_store_whatever_happens")
class ForgetsTheNo(Relay):
    """Forgets a failure that the store could not be told: the row is tried again as if it had not failed, and its count is wrong."""

    core: ClassVar[type[RelayCore]] = _ForgetsTheNo


class _LeavesInSilence(RelayCore):
    def leave(self) -> None:
        """Forget what failed."""
        super().leave()
        for held in self._held.values():
            held.answers.clear()


@saboteur(CONTRACT, kills="test_a_relay_that_is_stopped_tells_what_it_was_answered")
class LeavesWithoutAWord(Relay):
    """Is stopped, and does not say what failed: a service that is restarted often tries a poison for ever."""

    core: ClassVar[type[RelayCore]] = _LeavesInSilence


class _MarksAndMixes(RelayCore):
    def _publish(self, now: float) -> Step | None:
        """Mark what is suspect, and then publish as ever."""
        for held in self._held.values():
            if held.queue and held.suspect and not held.marked:
                return Mark(held.lease, held.queue[0].seq)
        for held in self._held.values():
            held.suspect = False
        return super()._publish(now)


@saboteur(CONTRACT, kills="test_a_suspect_is_delivered_alone")
class DeliversSuspectsAmongOthers(Relay):
    """Marks a suspect and publishes it among others: whichever of them kills the relay, it is the marked one that is buried."""

    core: ClassVar[type[RelayCore]] = _MarksAndMixes
