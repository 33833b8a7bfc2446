"""Small worlds for fallbacks: a pipeline with one, called in each form, and a provider that does what its script says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finresilience import Effect, Outcome, Pipeline
from tests.laws.worlds import RULES, Provider, on, still

if TYPE_CHECKING:
    from finresilience import Event
    from finresilience.policies.fallback import Fallback

FORMS = ("sync", "asyncio", "trio")
each_form = pytest.mark.parametrize("form", FORMS)


def piped(fallback: Fallback, *policies: Any, effect: Effect = Effect.READ, heard: list[Event] | None = None, **more: Any) -> Pipeline:
    settings: dict[str, Any] = {"clock": still(), "classify": RULES, "listeners": [] if heard is None else [heard.append]} | more
    return Pipeline(settings.pop("name", "acme"), fallback, *policies, effect=effect, **settings)


def ended(form: str, guard: Any, provider: Provider, *args: Any) -> Outcome[Any]:
    """Return how one call of the provider ended, seen from outside of the guard."""
    if form == "sync":
        outcome: Outcome[Any] = guard.outcome(provider.charge, *args)
        return outcome
    return on(form, guard.aoutcome, provider.acharge, *args)  # type: ignore[no-any-return]  # of whatever function


def plainly(form: str, guard: Any, provider: Provider, *args: Any) -> Any:
    """Return what the plain call returns, or raise what it raises."""
    if form == "sync":
        return guard.call(provider.charge, *args)
    return on(form, guard.acall, provider.acharge, *args)


def notes_of(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", []))
