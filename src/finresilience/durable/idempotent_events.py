"""What does an idempotent operation tell its listeners? Plain data: names, numbers and class names, never keys, bodies or messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from finresilience.events import Event, log_event

if TYPE_CHECKING:
    from finresilience.durable.records import KeyState


@final
class AnswerReplayed(Event):
    """A call got the answer of an earlier one under the same key; nothing was run."""

    __slots__ = ("state",)

    state: KeyState


@final
class HeirAsked(Event):
    """A call has taken over a key whose holder did not finish. `answer` is `found`, `not_found`, `still_unknown`, `failed` or `rerun`."""

    __slots__ = ("answer", "takeovers")

    answer: str
    takeovers: int


@final
class ClaimLost(Event):
    """The claim was not ours any more when the store was asked to `doing` it: somebody else has taken over, or settled it.

    If `happened`, this call had an answer by then, which its caller got, and which the store has not: it is evidence of a second effect.
    """

    __slots__ = ("doing", "fence", "happened")

    doing: str
    fence: int
    happened: bool


@final
class StoreNotTold(Event):
    """The store did not answer when it was told how a call ended, or to renew it. The caller knows; others find a claim that ran out."""

    __slots__ = ("doing", "error_type", "fence")

    doing: str
    fence: int
    error_type: str


@final
class AnswerNotKept(Event):
    """The call happened and its caller has the answer, but it could not be encoded: the key is INDETERMINATE until it is resolved."""

    __slots__ = ("error_type", "fence")

    fence: int
    error_type: str


_WARNED: Final = (ClaimLost, StoreNotTold, AnswerNotKept)


def log_idempotency_event(event: Event, /) -> None:
    """Warn on the stdlib logger `finresilience` of what a person should know with no set-up at all."""
    if not isinstance(event, _WARNED):
        log_event(event)
        return
    import logging

    logging.getLogger("finresilience").warning("%s: %s", event.name, _sentence(event), extra={"finresilience_event": event})


def _sentence(event: ClaimLost | StoreNotTold | AnswerNotKept) -> str:
    about = f"[fence {event.fence}]"
    if isinstance(event, ClaimLost):
        also = "; it had an answer, so it may have happened twice" if event.happened else ""
        return f"{event.doing} came too late, the claim is not ours any more{also} {about}"
    if isinstance(event, StoreNotTold):
        return f"the store did not answer ({event.doing}: {event.error_type}); the claim runs out by itself {about}"
    return f"it happened, but its answer cannot be kept ({event.error_type}); the key is indeterminate {about}"
