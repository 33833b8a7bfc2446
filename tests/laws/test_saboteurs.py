"""Are the laws awake? Each is shown a house with its very defect, and must go red."""

from __future__ import annotations

from typing import Any

import pytest

from finresilience import (
    NON_RETRYABLE,
    RETRYABLE,
    UNKNOWN,
    Declined,
    Effect,
    ErrorClassifier,
    ExpiredError,
    Failed,
    RefusedError,
    ResultError,
    Unknown,
    Verdict,
)
from finresilience.cores.breaker import BreakerCore
from finresilience.cores.join import End, Join
from finresilience.cores.probes import Probe, Round
from finresilience.policies.call import Call
from finresilience.policies.plan import Plan
from tests.laws import test_expiry as expiry, test_outcomes as outcomes, test_permits as permits
from tests.laws.sabotage import (
    a_cancelled_call_is_a_failure,
    a_cancelled_call_keeps_its_permit,
    a_success_closes_an_open_circuit,
    each_kill,
    kills,
    nothing,
    probes_have_no_lease,
)
from tests.laws.worlds import Lost

LOOPS = ("asyncio", "trio")
Patch = pytest.MonkeyPatch


# --- 1, the join -------------------------------------------------------------------------------------------------------


def the_last_attempt_alone_is_believed(patch: Patch) -> None:
    def end(self: Join) -> End:
        return End.UNKNOWN if self._last is not None and self._last.classification is UNKNOWN else End.FAILED

    patch.setattr(Join, "end", end)


def a_no_is_believed_without_a_key(patch: Patch) -> None:
    end = Join.end

    def credulous(self: Join) -> End:
        self._keyed = True
        return end(self)

    patch.setattr(Join, "end", credulous)


def a_no_is_never_believed_after_a_doubt(patch: Patch) -> None:
    end = Join.end

    def sceptical(self: Join) -> End:
        self._keyed = False
        return end(self)

    patch.setattr(Join, "end", sceptical)


def a_read_may_end_unknown(patch: Patch) -> None:
    end = Join.end

    def careless(self: Join) -> End:
        self._effect = Effect.IDEMPOTENT_BY_NATURE
        return end(self)

    patch.setattr(Join, "end", careless)


def nobody_remembers_what_was_sent(patch: Patch) -> None:
    patch.setattr(Join, "attempt", nothing)


# --- 2, raising --------------------------------------------------------------------------------------------------------


def an_unknown_end_raises_the_plain_error(patch: Patch) -> None:
    def unwrap(self: Unknown) -> Any:
        raise self.error.__cause__ or self.error

    patch.setattr(Unknown, "unwrap", unwrap)


def an_unknown_end_hides_its_cause(patch: Patch) -> None:
    def unwrap(self: Unknown) -> Any:
        raise self.error from None

    patch.setattr(Unknown, "unwrap", unwrap)


def errors_are_wrapped(patch: Patch) -> None:
    for kind in (Declined, Failed):

        def unwrap(self: Any, name: str = kind.__name__) -> Any:
            raise ResultError(name, None) from self.error

        patch.setattr(kind, "unwrap", unwrap)


def every_end_leaves_a_note(patch: Patch) -> None:
    outcome = Call.outcome

    def talkative(self: Call) -> Any:
        ended = outcome(self)
        if isinstance(ended, Failed):
            ended.error.add_note("finresilience tried")
        return ended

    patch.setattr(Call, "outcome", talkative)


# --- 3, a result in hand -----------------------------------------------------------------------------------------------


def a_late_value_is_thrown_away(patch: Patch) -> None:
    returned = Call.returned

    def strict(self: Call, value: Any, *, late: bool = False) -> None:
        if late:
            self.failed(ExpiredError("acme", 1.0))
        else:
            returned(self, value)

    patch.setattr(Call, "returned", strict)


def a_late_value_is_as_good_as_any(patch: Patch) -> None:
    settle = BreakerCore.settle

    def lenient(self: BreakerCore, permit: Any, now: float, **told: Any) -> None:
        told["slow"] = False
        settle(self, permit, now, **told)

    patch.setattr(BreakerCore, "settle", lenient)


# --- 4, expiry is not cancellation -------------------------------------------------------------------------------------


def judged_otherwise(patch: Patch, kind: type[BaseException], verdict: Verdict) -> None:
    judge = ErrorClassifier.error

    def error(self: ErrorClassifier, error: BaseException) -> Verdict:
        return verdict if isinstance(error, kind) else judge(self, error)

    patch.setattr(ErrorClassifier, "error", error)


def an_expired_call_surely_failed(patch: Patch) -> None:
    judged_otherwise(patch, ExpiredError, Verdict(RETRYABLE))


def an_expired_call_never_counts(patch: Patch) -> None:
    judged_otherwise(patch, ExpiredError, Verdict(UNKNOWN, counts_against_provider=False))


def an_expired_call_always_counts(patch: Patch) -> None:
    failed = Call.failed

    def unfair(self: Call, error: Exception) -> None:
        self.attempt_started -= 1e9
        failed(self, error)

    patch.setattr(Call, "failed", unfair)


def every_timeout_error_is_our_expiry(patch: Patch) -> None:
    failed = Call.failed

    def claiming(self: Call, error: Exception) -> None:
        failed(self, ExpiredError("acme", 1.0) if isinstance(error, TimeoutError) else error)

    patch.setattr(Call, "failed", claiming)


def nobody_hears_of_a_cancelled_call(patch: Patch) -> None:
    patch.setattr(Call, "abandoned", nothing)


def every_cancelled_call_is_told_of(patch: Patch) -> None:
    planned = Plan.__init__

    def unsafe(self: Plan, *args: Any, **more: Any) -> None:
        planned(self, *args, **(more | {"effect": Effect.UNSAFE}))

    patch.setattr(Plan, "__init__", unsafe)


# --- 5, refusals -------------------------------------------------------------------------------------------------------


def a_refusal_is_a_failure_like_any(patch: Patch) -> None:
    failed = Call.failed

    def blaming(self: Call, error: Exception) -> None:
        failed(self, Lost() if isinstance(error, RefusedError) else error)

    patch.setattr(Call, "failed", blaming)


def a_deadline_stops_nobody(patch: Patch) -> None:
    admit = Call.admit

    def admitted(self: Call) -> bool:
        self.deadline = float("inf")
        return admit(self)

    patch.setattr(Call, "admit", admitted)


# --- 6, permits --------------------------------------------------------------------------------------------------------


def a_failed_probe_is_forgiven(patch: Patch) -> None:
    settle = BreakerCore.settle

    def forgiving(self: BreakerCore, permit: Any, now: float, **told: Any) -> None:
        if isinstance(permit, Probe) and told["failed"]:
            self.release(permit)
        else:
            settle(self, permit, now, **told)

    patch.setattr(BreakerCore, "settle", forgiving)


def permits_are_settled_once_somebody_asks_again(patch: Patch) -> None:
    settle, admit, owed = BreakerCore.settle, BreakerCore.admit, list[Any]()

    def later(self: BreakerCore, permit: Any, now: float, **told: Any) -> None:
        owed.append((self, permit, now, told))

    def admitted(self: BreakerCore, now: float) -> Any:
        while owed:
            core, permit, then, told = owed.pop()
            settle(core, permit, then, **told)
        return admit(self, now)

    patch.setattr(BreakerCore, "settle", later)
    patch.setattr(BreakerCore, "admit", admitted)


def a_probe_past_its_lease_still_votes(patch: Patch) -> None:
    vote = Round.vote

    def holds(self: Round, probe: Probe, now: float) -> bool:
        return True

    def forgiving(self: Round, probe: Probe, *, bad: bool) -> bool | None:
        self._live.add(probe)
        return vote(self, probe, bad=bad)

    patch.setattr(Round, "holds", holds)
    patch.setattr(Round, "vote", forgiving)


def a_decline_is_held_against_the_provider(patch: Patch) -> None:
    judge = ErrorClassifier.error

    def error(self: ErrorClassifier, error: BaseException) -> Verdict:
        return Verdict(NON_RETRYABLE, counts_against_provider=judge(self, error).classification is NON_RETRYABLE)

    patch.setattr(ErrorClassifier, "error", error)


# --- the key -----------------------------------------------------------------------------------------------------------


def a_key_is_made_for_each_attempt(patch: Patch) -> None:
    enter = Call.enter

    def fresh(self: Call) -> Any:
        context = enter(self)
        context.key = f"{context.key}:{context.attempt}"
        return context

    patch.setattr(Call, "enter", fresh)


def a_key_is_only_wished_for(patch: Patch) -> None:
    planned = Plan.__init__

    def lenient(self: Plan, *args: Any, **more: Any) -> None:
        effect = more.get("effect")
        planned(self, *args, **(more | {"effect": Effect.IDEMPOTENT_BY_NATURE if effect is Effect.IDEMPOTENT else effect}))

    patch.setattr(Plan, "__init__", lenient)


@each_kill(
    (the_last_attempt_alone_is_believed, outcomes.test_the_outcome_of_a_call_is_the_join_over_its_attempts),
    (a_no_is_believed_without_a_key, outcomes.test_the_outcome_of_a_call_is_the_join_over_its_attempts),
    (a_no_is_never_believed_after_a_doubt, outcomes.test_the_outcome_of_a_call_is_the_join_over_its_attempts),
    (a_read_may_end_unknown, outcomes.test_the_outcome_of_a_call_is_the_join_over_its_attempts),
    (nobody_remembers_what_was_sent, outcomes.test_it_is_refused_only_if_no_attempt_was_sent),
    (an_unknown_end_raises_the_plain_error, outcomes.test_a_call_that_ends_unknown_raises_unknown_from_the_last_error),
    (an_unknown_end_hides_its_cause, outcomes.test_a_call_that_ends_unknown_raises_unknown_from_the_last_error),
    (a_read_may_end_unknown, outcomes.test_a_read_never_ends_unknown),
    (errors_are_wrapped, outcomes.test_every_other_end_raises_the_callers_own_error_unwrapped),
    (every_end_leaves_a_note, outcomes.test_one_error_object_raised_for_ever_carries_one_note_and_is_retried_each_time),
    (a_refusal_is_a_failure_like_any, outcomes.test_our_own_refusals_are_never_retried_and_never_recorded),
    (a_deadline_stops_nobody, outcomes.test_a_deadline_that_has_passed_means_no_call),
    (a_key_is_made_for_each_attempt, outcomes.test_the_key_is_minted_once_per_call_and_is_the_same_on_every_attempt),
    (a_key_is_only_wished_for, outcomes.test_an_idempotent_call_without_a_key_is_not_sent),
)
def test_the_laws_of_ends_catch(row: tuple[Any, ...]) -> None:
    kills(*row)


@each_kill(
    (a_late_value_is_thrown_away, expiry.test_a_value_that_comes_too_late_in_sync_code_wins_and_counts_as_slow),
    (a_late_value_is_as_good_as_any, expiry.test_a_value_that_comes_too_late_in_sync_code_wins_and_counts_as_slow),
    *(
        (a_cancelled_call_is_a_failure, expiry.test_interrupts_are_never_retried_swallowed_or_counted, kind)
        for kind in (KeyboardInterrupt,)
    ),
    *(
        (saboteur, law, loop)
        for loop in LOOPS
        for saboteur, law in (
            (a_late_value_is_thrown_away, expiry.test_a_value_that_meets_its_expiry_wins),
            (a_late_value_is_as_good_as_any, expiry.test_a_value_that_meets_its_expiry_counts_as_slow),
            (an_expired_call_surely_failed, expiry.test_expiry_is_unknown_and_counts_against_the_provider),
            (an_expired_call_never_counts, expiry.test_expiry_is_unknown_and_counts_against_the_provider),
            (an_expired_call_always_counts, expiry.test_an_attempt_cut_short_by_an_outer_deadline_is_unknown_but_does_not_count),
            (every_timeout_error_is_our_expiry, expiry.test_the_callees_own_timeout_error_is_not_ours),
            (a_cancelled_call_is_a_failure, expiry.test_cancellation_from_outside_is_neutral_and_passes_through),
            (nobody_hears_of_a_cancelled_call, expiry.test_cancellation_from_outside_is_neutral_and_passes_through),
            (every_cancelled_call_is_told_of, expiry.test_a_read_that_is_cancelled_is_nothing_to_ask_about),
        )
    ),
)
def test_the_laws_of_expiry_catch(row: tuple[Any, ...]) -> None:
    kills(*row)


@each_kill(
    (a_failed_probe_is_forgiven, permits.test_a_failed_probe_in_half_open_ends_the_loop),
    (permits_are_settled_once_somebody_asks_again, permits.test_a_permit_is_settled_before_the_backoff_sleep),
    (a_cancelled_call_keeps_its_permit, permits.test_a_probe_is_not_held_through_the_backoff_sleep),
    (probes_have_no_lease, permits.test_a_hung_probe_neither_wedges_nor_closes_the_circuit),
    (a_probe_past_its_lease_still_votes, permits.test_a_hung_probe_neither_wedges_nor_closes_the_circuit),
    (a_success_closes_an_open_circuit, permits.test_a_late_success_of_an_older_generation_does_not_close_the_circuit),
    (a_decline_is_held_against_the_provider, permits.test_declines_open_no_circuit),
)
def test_the_laws_of_permits_catch(row: tuple[Any, ...]) -> None:
    kills(*row)
