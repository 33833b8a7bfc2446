"""Law 1: the outcome of a call is the join over its attempts."""

from __future__ import annotations

from itertools import product

import pytest

from finresilience.cores.join import End, Join
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification, Effect, Verdict

Kinds = tuple[Classification, ...]
KINDS = (RETRYABLE, NON_RETRYABLE, UNKNOWN)
SEQUENCES = [kinds for length in range(5) for kinds in product(KINDS, repeat=length)]
CASES = [(kinds, effect, keyed) for kinds in SEQUENCES for effect in Effect for keyed in (False, True)]


def law(kinds: Kinds, effect: Effect, *, keyed: bool) -> End:
    """Read from the last answer to the first: a no ends the search where it speaks for what came before it."""
    may_have_moved = UNKNOWN in kinds and effect is not Effect.READ
    said_no_at_last = kinds[-1:] == (NON_RETRYABLE,)
    table = {
        (False, False): End.FAILED,
        (False, True): End.DECLINED,
        (True, False): End.UNKNOWN,
        (True, True): End.DECLINED if keyed else End.UNKNOWN,
    }
    return table[may_have_moved, said_no_at_last] if kinds else End.REFUSED


def ended(join: Join | LastWord, kinds: Kinds) -> End:
    for kind in kinds:
        join.attempt(Verdict(kind))
    assert join.sent == len(kinds)
    return join.end()


def broken(make: type[Join | LastWord]) -> list[tuple[Kinds, Effect, bool]]:
    return [case for case in CASES if ended(make(case[1], keyed=case[2]), case[0]) is not law(case[0], case[1], keyed=case[2])]


def test_every_sequence_of_up_to_four_attempts_ends_as_the_law_says() -> None:
    assert broken(Join) == []


def test_an_unknown_that_no_keyed_answer_follows_is_never_talked_away() -> None:
    for kinds, effect, keyed in CASES:
        if effect is Effect.READ or UNKNOWN not in kinds:
            continue
        answered = keyed and kinds[-1] is NON_RETRYABLE
        assert answered or ended(Join(effect, keyed=keyed), kinds) is End.UNKNOWN


def test_refused_means_that_nothing_was_sent_and_only_that() -> None:
    for kinds, effect, keyed in CASES:
        assert (ended(Join(effect, keyed=keyed), kinds) is End.REFUSED) == (not kinds)


def test_a_read_never_ends_unknown() -> None:
    assert End.UNKNOWN not in {ended(Join(Effect.READ, keyed=keyed), kinds) for kinds in SEQUENCES for keyed in (False, True)}


class LastWord:
    """Saboteur: the last attempt is all it remembers."""

    def __init__(self, effect: Effect, *, keyed: bool) -> None:
        self.effect, self.keyed, self.sent = effect, keyed, 0
        self.kinds: Kinds = ()

    def attempt(self, verdict: Verdict) -> None:
        self.sent += 1
        self.kinds = (*self.kinds, verdict.classification)

    def end(self) -> End:
        return law(self.kinds[-1:], self.effect, keyed=self.keyed)


class Keyless(LastWord):
    """Saboteur: any no cancels any doubt, whatever key it came under."""

    def end(self) -> End:
        return law(self.kinds, self.effect, keyed=True)


class Careless(LastWord):
    """Saboteur: doubts about a READ too."""

    def end(self) -> End:
        return law(self.kinds, Effect.UNSAFE, keyed=self.keyed)


@pytest.mark.parametrize("saboteur", [LastWord, Keyless, Careless])
def test_the_law_catches_the_saboteur(saboteur: type[LastWord]) -> None:
    assert broken(saboteur)
