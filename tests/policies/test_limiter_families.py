"""A rate for each key: who shares one, how many are kept, and why nobody gains by being forgotten."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from gc import collect
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, strategies as st

from finresilience import CallRefused, ConfigurationError, Constant, Effect, Ok, Pipeline, RateLimitedError, Refused, Retry, Timeout
from finresilience.cores.limiter import SlidingWindow, TokenBucket
from finresilience.policies.limiter import RateLimiter
from finresilience.policies.limiter_per import RatePerKey
from finresilience.testing import VirtualClock, instant
from tests.laws.worlds import RULES, Down, Provider, both_loops, on, still

if TYPE_CHECKING:
    from collections.abc import Callable

    from finresilience import Event

RATES: dict[str, TokenBucket | SlidingWindow] = {"bucket": TokenBucket(1, per=1, burst=2), "window": SlidingWindow(2, per=2)}


def family(rate: str = "bucket", *, at_most: int = 2, heard: list[Event] | None = None, **more: Any) -> Any:
    settings: dict[str, Any] = {"clock": still(), "listeners": [] if heard is None else [heard.append]} | more
    return RateLimiter(RATES[rate], name="tenants", **settings).per(lambda tenant, *_, **__: tenant, at_most=at_most)


def ends(policy: Any, tenants: str) -> str:
    """Return one letter for each call: + passed, - refused."""
    return "".join("+" if isinstance(policy.outcome(Provider().charge, tenant), Ok) else "-" for tenant in tenants)


def test_each_key_has_the_whole_rate_for_itself() -> None:
    policy = family()
    assert ends(policy, "aaabbba") == "++-++--"
    policy._clock.advance(1)
    assert ends(policy, "aabb") == "+-+-"


def test_the_same_key_has_the_same_limiter() -> None:
    policy = family()
    assert policy.of("a") is policy.of("a") is policy.choose(("a",), {})
    assert policy.of("a").name == "tenants[a]"


@pytest.mark.parametrize("rate", RATES)
def test_one_that_still_remembers_a_call_is_never_forgotten_and_a_new_key_is_refused(rate: str) -> None:
    policy = family(rate)
    assert ends(policy, "ab") == "++"
    outcome = policy.outcome(Provider().charge, "c")
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, RateLimitedError)
    assert outcome.error.retry_after == (1.0 if rate == "bucket" else 2.0)
    with pytest.raises(RateLimitedError):
        policy.of("c")
    policy._clock.advance(outcome.error.retry_after)
    assert ends(policy, "c") == "+"


def test_the_one_not_used_for_longest_makes_room() -> None:
    policy = family()
    assert ends(policy, "ab") == "++"
    policy._clock.advance(9)
    assert ends(policy, "ac") == "++"
    assert set(policy.statistics()) == {"a", "c"}


def test_one_that_is_busy_is_passed_over_for_one_that_is_not() -> None:
    policy = family(at_most=3)
    assert ends(policy, "aab") == "+++"
    policy._clock.advance(1)
    assert ends(policy, "cd") == "++"  # a was used before b, and remembers for two seconds
    assert set(policy.statistics()) == {"a", "c", "d"}


def test_one_that_somebody_holds_stays_its_keys_own() -> None:
    policy = family(at_most=1)
    held = policy.of("a")
    assert ends(policy, "b") == "-"  # a has seen no call, but whoever holds it may be about to pass, and nobody would remember
    assert held.take()
    assert held.take()
    assert policy.of("a") is held
    assert ends(policy, "a") == "-"
    policy._clock.advance(9)
    del held
    collect()
    assert ends(policy, "b") == "+"
    assert set(policy.statistics()) == {"b"}


def test_one_that_an_interruption_left_out_of_the_books_is_still_its_keys_own_while_somebody_holds_it() -> None:
    policy = family(at_most=2)
    held = policy.of("a")
    policy._kept.clear()  # as if interrupted just when it was to be forgotten
    assert policy.of("a") is held


@given(
    rate=st.sampled_from(sorted(RATES)),
    steps=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 4)), max_size=60),
    at_most=st.integers(1, 4),
)
def test_no_key_exceeds_its_rate_by_being_forgotten(rate: str, steps: list[tuple[str, int]], at_most: int) -> None:
    policy, passed = family(rate, at_most=at_most), dict[str, list[float]]()
    for tenant, halves in steps:
        policy._clock.advance(halves / 2)
        if ends(policy, tenant) == "+":
            passed.setdefault(tenant, []).append(policy._clock.monotonic())
        assert len(policy.statistics()) <= at_most
    for times in passed.values():
        for sooner, later in zip(times, times[2:], strict=False):
            assert later - sooner >= (1.0 if rate == "bucket" else 2.0)


def forgets_whoever_is_oldest(policy: Any) -> float:
    """Saboteur: makes room without asking whether anything is still remembered."""
    policy._kept.popitem(last=False)
    return 0.0


def test_a_family_that_forgets_whoever_is_oldest_lets_a_key_exceed_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(family(at_most=1), "aaba") == "++--"
    monkeypatch.setattr(RatePerKey, "_make_room", forgets_whoever_is_oldest)
    assert ends(family(at_most=1), "aaba") == "++++"


def test_a_flood_of_new_keys_is_refused_without_looking_at_every_limiter_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, looks = family(at_most=50), 0
    assert set(ends(policy, "".join(map(chr, range(0x4E00, 0x4E00 + 50))))) == {"+"}
    busy: Callable[[RateLimiter], float] = RateLimiter.busy

    def counted(self: RateLimiter) -> float:
        nonlocal looks
        looks += 1
        return busy(self)

    monkeypatch.setattr(RateLimiter, "busy", counted)
    assert ends(policy, "a" * 100) == "-" * 100
    assert looks == 50


@both_loops
def test_one_that_has_callers_waiting_is_never_forgotten(backend: str) -> None:
    async def world() -> None:
        policy = family(at_most=1, max_wait=9.0, clock=VirtualClock.current())
        passed: list[float] = []

        async def caller(tenant: str) -> None:
            await policy.acall(Provider().acharge, tenant)
            passed.append(VirtualClock.current().monotonic())

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(caller, "a")
            await anyio.sleep(0.5)
            with pytest.raises(RateLimitedError):
                await policy.acall(Provider().acharge, "b")
        assert passed == [0.0, 0.0, 1.0, 2.0]

    on(backend, world)


@pytest.mark.parametrize("form", ["sync", "asyncio", "trio"])
def test_in_a_pipeline_it_chooses_by_the_calls_arguments_once_for_the_whole_call(form: str) -> None:
    heard: list[Event] = []
    retry = Retry(attempts=3, backoff=Constant(0))

    def piped(clock: Any) -> Pipeline:
        policy = family(clock=None)
        return Pipeline("acme", policy, retry, Timeout(2.0), classify=RULES, effect=Effect.READ, clock=clock, listeners=[heard.append])

    async def world() -> list[type]:
        acme = piped(VirtualClock.current())
        return [type(await acme.aoutcome(Provider(Down()).acharge, tenant)) for tenant in "aaab"]

    acme = piped(still())
    kinds = [type(acme.outcome(Provider(Down()).charge, tenant)) for tenant in "aaab"] if form == "sync" else on(form, world)
    assert kinds == [Ok, Ok, Refused, Ok]
    assert [event for event in heard if isinstance(event, CallRefused)] == [
        CallRefused(name="acme", reason="RateLimitedError", reference=None)
    ]


def test_inside_the_retries_it_chooses_for_each_attempt() -> None:
    policy = family(clock=None)
    pipeline = Pipeline(
        "acme",
        Retry(attempts=5, backoff=Constant(0)),
        policy,
        Timeout(2.0),
        classify=RULES,
        effect=Effect.READ,
        clock=still(),
        listeners=[],
    )
    provider = Provider(Down(), Down(), Down())
    pipeline.outcome(provider.charge, "a")
    assert provider.attempts == 2
    assert isinstance(pipeline.outcome(provider.charge, "b"), Ok)


def test_what_the_function_says_passes_through_untouched() -> None:
    policy, error = family(), Down()
    with pytest.raises(Down) as caught:
        policy.call(Provider(error).charge, "a")
    assert caught.value is error
    decorated = policy(Provider("a receipt").charge)
    assert decorated("a") == "a receipt"


def test_it_follows_the_ruling_clock_where_its_template_does() -> None:
    policy = RateLimiter(RATES["bucket"]).per(str, at_most=2)
    with instant() as clock:
        assert ends(policy, "aaa") == "++-"
        clock.advance(1)
        assert ends(policy, "aa") == "+-"


@pytest.mark.parametrize("key", [[], {}, ("a", [])], ids=repr)
def test_a_key_that_cannot_be_hashed_is_refused_by_name_and_nothing_is_sent(key: Any) -> None:
    provider = Provider()
    with pytest.raises(ConfigurationError, match=r"^key="):
        family().outcome(provider.charge, key)
    assert provider.attempts == 0


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, None, "3"], ids=repr)
def test_an_unusable_bound_is_refused_by_name(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^at_most="):
        family(at_most=bad)


def test_a_key_that_is_no_function_is_refused_by_name() -> None:
    key: Any = "tenant"
    with pytest.raises(ConfigurationError, match=r"^key="):
        RateLimiter(RATES["bucket"]).per(key, at_most=3)


def test_limiters_that_were_made_before_a_family_joined_a_pipeline_follow_its_clock_too() -> None:
    policy = RateLimiter(RATES["bucket"]).per(str, at_most=2)
    clock = still()
    assert ends(policy, "aaa") == "++-"
    pipeline = Pipeline("acme", policy, Retry(attempts=1), classify=RULES, clock=clock, listeners=[])
    assert isinstance(pipeline.outcome(Provider().charge, "a"), Refused)
    clock.advance(1)
    assert isinstance(pipeline.outcome(Provider().charge, "a"), Ok)
