"""A cache is never the guard: its laws, and the saboteurs that they catch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from finresilience.durable.records import Claimed, Indeterminate, InProgress, KeyState, Mismatch, Replay
from finresilience.integrations import idempotency_cached
from finresilience.integrations.idempotency_cache import CachedStore
from finresilience.integrations.idempotency_cached import Cached
from tests.integrations.idempotency_shelf import World
from tests.laws.sabotage import each_kill, kills

if TYPE_CHECKING:
    from collections.abc import Callable


# ---------------------------------------------------------------- never the guard


def law_only_what_is_finished_is_ever_cached() -> None:
    world = World()
    token = world.claim().token
    assert isinstance(world.claim(), InProgress)
    assert world.shelf.kept == {}
    world.store.release(token)
    token = world.claim().token
    world.store.mark_indeterminate(token)
    assert isinstance(world.claim(), Indeterminate)
    (record,) = world.store.unsettled()
    world.store.resolve(record, KeyState.COMPLETED, b"found", evidence="a report")
    assert world.shelf.kept == {}
    assert world.claim().record.response == b"found"


def law_what_a_transaction_sees_is_not_cached() -> None:
    world = World()
    mine = world.books.transaction()
    token = world.claim(within=mine).token
    world.store.complete(token, b"paid", within=mine)
    assert isinstance(world.claim(within=mine), Replay)
    mine.rollback()
    assert isinstance(world.claim(), Claimed), "an answer that was rolled back was replayed"


def law_an_answer_of_another_key_is_never_given() -> None:
    """Clients have been known to hand one caller's answer to another, when a cancelled question left its answer on the line."""
    world = World()
    world.finished("k1", "m_1", b"the account of m_1")
    ((mixed_up, until),) = world.shelf.kept.values()
    world.finished("k1", "m_2", b"theirs")
    world.shelf.kept = dict.fromkeys(world.shelf.kept, (mixed_up, until))
    assert world.claim("k1", "m_2").record.response == b"theirs"
    assert world.was.rejected == 1


def law_another_request_is_never_given_the_answer() -> None:
    world = World()
    world.finished()
    assert isinstance(world.claim(fingerprint="f2"), Mismatch)


def law_a_cache_that_fails_costs_nothing_but_time() -> None:
    world = World(rest=10.0)
    world.finished()
    world.shelf.fault = ConnectionError("down")
    assert isinstance(world.claim(), Replay)
    assert isinstance(world.claim("k2"), Claimed)
    assert isinstance(world.claim("k2"), InProgress)
    assert world.was.errors == 1


def law_a_cache_that_has_failed_is_left_alone_for_a_while() -> None:
    world = World(rest=10.0)
    world.shelf.fault = ConnectionError("down")
    world.claim()
    asked = world.shelf.asked
    world.claim("k2")
    assert (world.shelf.asked, world.was.skipped) == (asked, 1)
    world.clock.advance(10)
    world.claim("k3")
    assert world.shelf.asked == asked + 1


LAWS: list[Callable[[], None]] = [
    law_only_what_is_finished_is_ever_cached,
    law_what_a_transaction_sees_is_not_cached,
    law_an_answer_of_another_key_is_never_given,
    law_another_request_is_never_given_the_answer,
    law_a_cache_that_fails_costs_nothing_but_time,
    law_a_cache_that_has_failed_is_left_alone_for_a_while,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
def test_it_keeps_the_law(law: Any) -> None:
    law()


# ---------------------------------------------------------------- saboteurs


def caches_whatever_is_known(patch: pytest.MonkeyPatch) -> None:
    """The saboteur: an INDETERMINATE key is cached as an empty answer."""
    kept = Cached._kept

    def generous(self: Cached, name: str, claim: Any) -> str | None:
        return kept(self, name, Replay(claim.record) if isinstance(claim, Indeterminate) else claim)

    patch.setattr(Cached, "_kept", generous)
    patch.setitem(idempotency_cached._FINAL, "indeterminate", KeyState.INDETERMINATE)


def caches_inside_of_transactions(patch: pytest.MonkeyPatch) -> None:
    claim = CachedStore.claim

    def eager(self: Any, scope: str, key: str, *, within: Any = None, **terms: Any) -> Any:
        found = claim(self, scope, key, within=within, **terms)
        self._keep(self._name(scope, key), found)
        return found

    patch.setattr(CachedStore, "claim", eager)


def trusts_whatever_comes_back(patch: pytest.MonkeyPatch) -> None:
    """The saboteur: it does not look whose answer it is."""
    read = idempotency_cached._read

    def trusting(name: str, found: Any, scope: str, key: str) -> Any:
        return read(json.loads(found)["name"], found, scope, key)

    patch.setattr(idempotency_cached, "_read", trusting)


def has_no_fingerprint(patch: pytest.MonkeyPatch) -> None:
    answer = Cached._answer

    def careless(self: Cached, name: str, found: Any, scope: str, key: str, fingerprint: str) -> Any:
        told = fingerprint if found is None else json.loads(found)["fingerprint"]
        return answer(self, name, found, scope, key, told)

    patch.setattr(Cached, "_answer", careless)


def lets_its_errors_out(patch: pytest.MonkeyPatch) -> None:
    def proud(self: Any, name: str, scope: str, key: str, fingerprint: str) -> Any:
        return self._answer(name, self._client.get(name), scope, key, fingerprint)

    patch.setattr(CachedStore, "_known", proud)


def never_rests(patch: pytest.MonkeyPatch) -> None:
    def stubborn(self: Cached) -> None:
        self._counts["errors"] += 1

    patch.setattr(Cached, "_failed", stubborn)


@each_kill(
    (caches_whatever_is_known, law_only_what_is_finished_is_ever_cached),
    (caches_inside_of_transactions, law_what_a_transaction_sees_is_not_cached),
    (trusts_whatever_comes_back, law_an_answer_of_another_key_is_never_given),
    (has_no_fingerprint, law_another_request_is_never_given_the_answer),
    (never_rests, law_a_cache_that_has_failed_is_left_alone_for_a_while),
)
def test_the_law_catches(row: Any) -> None:
    kills(*row)


def test_the_law_catches_a_cache_whose_errors_are_the_callers() -> None:
    with pytest.MonkeyPatch.context() as patch:
        lets_its_errors_out(patch)
        with pytest.raises(ConnectionError):
            law_a_cache_that_fails_costs_nothing_but_time()
