"""Operations that are broken in one place, each with the law that must go red on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience import Declined, FinresilienceError, Unknown
from finresilience.durable.idempotent import AsyncIdempotent, SyncIdempotent
from finresilience.durable.idempotent_core import Act, Begin, IdempotentCore
from finresilience.durable.idempotent_question import Question
from finresilience.durable.idempotent_shells import awork, work
from tests.durable import test_idempotent_ends as ends, test_idempotent_heirs as heirs, test_idempotent_leases as leases
from tests.durable.idempotents import FLAVOURS, CardDeclinedError, DownError, LostError, Till

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience.durable.records import Claimed

SABOTEURS: dict[type[Any], Callable[[Till], None]] = {}


def killed_by(law: Callable[[Till], None]) -> Callable[[type[Any]], type[Any]]:
    def marked(broken: type[Any]) -> type[Any]:
        SABOTEURS[broken] = law
        return broken

    return marked


# ---------------------------------------------------------------- decisions


@killed_by(ends.test_what_may_have_happened_is_never_run_again)
class GivesTheUnknownBack(IdempotentCore):
    """Takes an unknown outcome for a failure: the next call pays again."""

    def ended(self, outcome: Any, *, provisional: bool) -> Act:
        return Act.RELEASE if isinstance(outcome, Unknown) else super().ended(outcome, provisional=provisional)


@killed_by(ends.test_a_decline_is_stored_and_replayed_as_one)
class ForgetsDeclines(IdempotentCore):
    """Gives the key back on a no, so that it is asked for again until it is a yes."""

    def ended(self, outcome: Any, *, provisional: bool) -> Act:
        return Act.RELEASE if isinstance(outcome, Declined) else super().ended(outcome, provisional=provisional)


@killed_by(ends.test_a_no_of_our_own_is_no_answer_of_the_providers)
class BelievesItself(IdempotentCore):
    """Stores a mistake of our own as the provider's no: the key is of no use for ever."""

    def ended(self, outcome: Any, *, provisional: bool) -> Act:
        return Act.FAIL if isinstance(outcome, Declined) else super().ended(outcome, provisional=provisional)


@killed_by(ends.test_an_answer_that_stands_in_is_returned_and_not_kept)
class KeepsFallbacks(IdempotentCore):
    """Stores an answer that the provider never gave."""

    def ended(self, outcome: Any, *, provisional: bool) -> Act:
        return super().ended(outcome, provisional=False)


@killed_by(lambda till: ends.test_an_exit_in_the_body_leaves_a_doubt_and_passes_through(till, ends.TimeLimit))
class ForgetsTheStopped(IdempotentCore):
    """Gives the key of a call back that was stopped in the middle of it."""

    def interrupted(self, *, sent: bool) -> Act:
        return Act.RELEASE


@killed_by(heirs.test_an_heir_who_can_ask_nobody_runs_nothing)
class HeirsJustRun(IdempotentCore):
    """Takes a dead holder's key for a new one."""

    def begin(self, claimed: Claimed) -> Begin:
        return Begin.RUN


@killed_by(lambda till: heirs.test_an_ask_that_fails_tells_nothing_and_the_next_one_asks_again(till, DownError()))
class SilenceIsNo(IdempotentCore):
    """Takes an inquiry that failed for one that found nothing."""

    def asked(self, answer: object) -> Begin:
        return Begin.RUN if isinstance(answer, Exception) else super().asked(answer)


@killed_by(heirs.test_what_the_provider_cannot_say_is_in_doubt)
class ImpatientHeir(IdempotentCore):
    """Runs what the provider cannot say anything about."""

    def asked(self, answer: object) -> Begin:
        told = super().asked(answer)
        return Begin.RUN if told is Begin.DOUBT else told


@killed_by(heirs.test_an_heir_runs_nothing_once_the_provider_may_have_forgotten_the_key)
class TrustsOldKeys(IdempotentCore):
    """Runs a payment of last month again, under a key that nobody remembers."""

    def looked(self, age: float | None) -> Begin:
        return Begin.RUN


@killed_by(leases.test_who_has_lost_the_claim_before_he_sent_is_stopped)
class GoesOnWithoutAClaim(IdempotentCore):
    """Lets a body send although its key has an heir."""

    def lost(self, *, sent: bool, marks_sent: bool) -> bool:
        return False


# ---------------------------------------------------------------- shells


class _Sharing:
    def question(self, args: Any, kwargs: Any) -> Question:
        honest: Any = super()  # of the class it is mixed into
        told: Question = honest.question(args, kwargs)
        return Question(told.key.partition(":")[0], told.fingerprint)


@killed_by(ends.test_two_accounts_share_no_answer)
class ForgetsTheScope(_Sharing):
    """Gives one account the answer of another."""


class _Unlike:
    def question(self, args: Any, kwargs: Any) -> Question:
        honest: Any = super()
        told: Question = honest.question(args, kwargs)
        return Question(told.key, "v1:any")


@killed_by(ends.test_another_request_under_the_same_key_is_never_a_replay)
class ForgetsTheRequest(_Unlike):
    """Answers 5,000.00 with the receipt for 50.00."""


@killed_by(leases.test_a_body_that_outlives_its_lease_many_times_has_no_heir)
class NeverRenews:
    """Lets the lease of a body that works run out."""

    async def renewed(self, run: Any, scope: Any) -> None:
        """Do nothing."""


@killed_by(heirs.test_what_the_provider_has_is_the_answer_and_is_stored)
class RunsAndThenAsks:
    """Runs the body for an heir all the same."""

    def worked(self, run: Any, fn: Any) -> Any:
        run.begin = Begin.RUN
        return work(run, fn)

    async def aworked(self, run: Any, fn: Any) -> Any:
        run.begin = Begin.RUN
        return await awork(run, fn)


@killed_by(ends.test_an_answer_that_cannot_be_encoded_is_returned_and_its_key_is_never_run_again)
class LosesWhatItCannotKeep:
    """Raises where an answer cannot be stored: it happened, and its caller is told of an error."""

    def tell(self, event: Any) -> None:
        if type(event).__name__ == "AnswerNotKept":
            raise TypeError(event)
        honest: Any = super()
        honest.tell(event)


# ---------------------------------------------------------------- every one is killed


def broken(saboteur: type[Any]) -> dict[str, Any]:
    if issubclass(saboteur, IdempotentCore):
        return {name: type("Broken", (kind,), {"core_of": saboteur}) for name, kind in HONEST.items()}
    return {name: type("Broken", (saboteur, kind), {}) for name, kind in HONEST.items()}


HONEST: dict[str, type[Any]] = {"sync": SyncIdempotent, "async": AsyncIdempotent}
RED = (AssertionError, pytest.fail.Exception, FinresilienceError, CardDeclinedError, LostError, TypeError, BaseExceptionGroup)
ONLY_IN_A_LOOP = {NeverRenews, GoesOnWithoutAClaim}


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("saboteur", SABOTEURS, ids=lambda saboteur: saboteur.__name__)
def test_a_saboteur_is_caught_by_its_law(saboteur: type[Any], flavour: str) -> None:
    flavour = "asyncio" if flavour == "sync" and saboteur in ONLY_IN_A_LOOP else flavour
    SABOTEURS[saboteur](Till(flavour))
    till = Till(flavour)
    till.kinds = broken(saboteur)
    with pytest.raises(RED):
        SABOTEURS[saboteur](till)
