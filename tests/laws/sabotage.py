"""Is the test awake? A law is green on the house as it is, and red once a saboteur has broken it.

A saboteur is a function that breaks one thing, undone afterwards. Those that several rooms need are here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, settings

from finresilience import CircuitState, FinresilienceError
from finresilience.cores.breaker import BreakerCore
from finresilience.cores.probes import Probe, Round
from finresilience.testing import CounterexampleError
from tests.laws.worlds import Down, Lost, No

if TYPE_CHECKING:
    from collections.abc import Callable

_seen_green: set[tuple[object, ...]] = set()
RED = (AssertionError, pytest.fail.Exception, FinresilienceError, Down, Lost, No)  # a NameError in a saboteur proves nothing
SEARCH = settings(max_examples=5_000, report_multiple_bugs=False, derandomize=True, database=None, phases=[Phase.generate])
"""For the hunt of a saboteur: the first example that catches it ends it. Which come depends on what else is imported, so many may."""


def kills(saboteur: Callable[[pytest.MonkeyPatch], object], law: Callable[..., object], *args: Any) -> None:
    """Show that `law` is green, and red under `saboteur`."""
    _green(law, *args)
    with pytest.MonkeyPatch.context() as patch:
        saboteur(patch)
        try:
            law(*args)
        except BaseException as error:
            if _is_red(error):
                return
            raise
    pytest.fail(f"{law.__name__} is asleep: {saboteur.__name__} passed it")


def _green(law: Callable[..., object], *args: Any) -> None:
    """Show that `law` is green: once in this process for the same arguments, however many saboteurs it must catch."""
    told = (law, *args)
    try:
        if told in _seen_green:
            return
    except TypeError:  # arguments that cannot be hashed
        law(*args)
    else:
        law(*args)
        _seen_green.add(told)


def _is_red(error: BaseException | None) -> bool:
    if isinstance(error, CounterexampleError):
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        return error.split(RED)[1] is None
    return isinstance(error, RED)


def each_kill(*rows: tuple[Any, ...]) -> pytest.MarkDecorator:
    """Run a test for each row of a saboteur, the law that must catch it, and what the law is called with."""
    ids = ["-".join([saboteur.__name__, law.__name__.removeprefix("test_"), *map(_named, args)]) for saboteur, law, *args in rows]
    return pytest.mark.parametrize("row", rows, ids=ids)


def _named(arg: object) -> str:
    return getattr(arg, "__name__", str(arg))


def nothing(*_: Any, **__: Any) -> None:
    """Stands in for what a saboteur leaves out."""


# --- broken circuits ---------------------------------------------------------------------------------------------------


def probes_are_unlimited(patch: pytest.MonkeyPatch) -> None:
    def claim(self: Round, now: float) -> Probe:
        probe = Probe(now + self._lease)
        self._live.add(probe)
        return probe

    patch.setattr(Round, "claim", claim)


def probes_have_no_lease(patch: pytest.MonkeyPatch) -> None:
    def expire(self: Round, now: float) -> int:
        return 0

    patch.setattr(Round, "expire", expire)


def results_have_no_generation(patch: pytest.MonkeyPatch) -> None:
    """Whatever comes back while a round is on is a vote of that round."""
    settle = BreakerCore.settle

    def timeless(self: BreakerCore, permit: Any, now: float, **told: Any) -> None:
        if self._round is not None and permit not in self._round._live:
            permit = next(iter(self._round._live), permit)
        settle(self, permit, now, **told)

    patch.setattr(BreakerCore, "settle", timeless)


def an_old_probe_frees_a_place_in_the_new_round(patch: pytest.MonkeyPatch) -> None:
    settle = BreakerCore.settle

    def crossed(self: BreakerCore, permit: Any, now: float, **told: Any) -> None:
        if isinstance(permit, Probe) and self._round is not None and permit not in self._round._live:
            self._round._size += 1
            return
        settle(self, permit, now, **told)

    patch.setattr(BreakerCore, "settle", crossed)


def a_success_closes_an_open_circuit(patch: pytest.MonkeyPatch) -> None:
    settle = BreakerCore.settle

    def hopeful(self: BreakerCore, permit: Any, now: float, *, failed: bool, **told: Any) -> None:
        if self.state is CircuitState.OPEN and not failed:
            self._enter_closed(now, "somebody was lucky")
            return
        settle(self, permit, now, failed=failed, **told)

    patch.setattr(BreakerCore, "settle", hopeful)


def a_cancelled_call_is_a_failure(patch: pytest.MonkeyPatch) -> None:
    def release(self: BreakerCore, permit: Any) -> None:
        self.settle(permit, self._until, failed=True)

    patch.setattr(BreakerCore, "release", release)


def a_cancelled_call_is_a_success(patch: pytest.MonkeyPatch) -> None:
    def release(self: BreakerCore, permit: Any) -> None:
        self.settle(permit, self._until, failed=False)

    patch.setattr(BreakerCore, "release", release)


def a_cancelled_call_keeps_its_permit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(BreakerCore, "release", nothing)
